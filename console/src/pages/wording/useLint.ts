/** The linter as somebody types: the newest answer wins, and until it is there the marks move along with the text. */
import { onScopeDispose, ref, shallowRef, watch, type Ref, type ShallowRef } from "vue";
import { asRefusal } from "../../api/ask";
import { api, told, type Refusal, type Shapes } from "../../api/client";
import { inUnits, shifted, type Mark } from "./spans";

const PAUSE_MS = 300;

export interface Linting {
  answer: ShallowRef<Shapes["Linted"] | null>; // of the newest text that was looked at
  marks: ShallowRef<Mark[]>; // one for each finding of it, `key` being its place there
  refusal: ShallowRef<Refusal | null>;
  waiting: Ref<boolean>; // the text is newer than the answer
}

/** `asked`: null where there is nothing to look at. `tenant`: whose text it is, where the address does not say. */
export function useLint(asked: () => Shapes["AskedLint"] | null, tenant: () => number | undefined): Linting {
  const answer = shallowRef<Shapes["Linted"] | null>(null);
  const marks = shallowRef<Mark[]>([]);
  const refusal = shallowRef<Refusal | null>(null);
  const waiting = ref(false);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asking: AbortController | null = null;

  async function look(body: Shapes["AskedLint"]): Promise<void> {
    asking?.abort();
    const mine = (asking = new AbortController());
    try {
      const said = await told(
        api.POST("/v1/templates/lint", {
          params: { query: { tenant_id: tenant() } },
          body,
          signal: mine.signal,
        }),
      );
      if (mine !== asking) return;
      answer.value = said;
      marks.value = inUnits(body.body, said.findings);
      refusal.value = null;
    } catch (error) {
      if (mine !== asking) return;
      refusal.value = asRefusal(error);
    }
    waiting.value = false;
  }

  watch(
    () => JSON.stringify(asked()),
    (now, before) => {
      const wanted = JSON.parse(now) as Shapes["AskedLint"] | null;
      clearTimeout(timer);
      asking?.abort();
      asking = null;
      if (!wanted) {
        answer.value = null;
        marks.value = [];
        refusal.value = null;
        waiting.value = false;
        return;
      }
      waiting.value = true;
      timer = setTimeout(() => void look(wanted), before === undefined ? 0 : PAUSE_MS);
    },
    { immediate: true },
  );
  // At once and not a moment later: the marks are drawn behind the text that was just typed.
  watch(
    () => asked()?.body ?? "",
    (now, before) => (marks.value = shifted(marks.value, before, now)),
    { flush: "sync" },
  );
  onScopeDispose(() => {
    clearTimeout(timer);
    asking?.abort();
  });
  return { answer, marks, refusal, waiting };
}
