/**
 * The overview as it happens: asked once, then told by a stream of events. Where that breaks the page asks every ten
 * seconds and comes back to the stream with growing patience. While nobody looks at the tab there is no stream: a
 * browser has six connections to a server, and other tabs need them.
 */
import { computed, onScopeDispose, ref, shallowRef, type ComputedRef, type Ref, type ShallowRef } from "vue";
import { asRefusal } from "../../api/ask";
import { api, fileUrl, told, type Refusal, type Shapes } from "../../api/client";

const POLL_MS = 10_000;
const SILENT_MS = 25_000; // longer than the server is ever silent
const AGAIN_MS = 2_000;
const AGAIN_MS_MAX = 60_000;

export type How = "live" | "polling" | "asking";
type Overview = Shapes["Overview"];

export interface Live {
  data: ShallowRef<Overview | null>;
  refusal: ShallowRef<Refusal | null>;
  how: Ref<How>;
  agoS: ComputedRef<number>; // since something was heard
  again: () => Promise<void>;
}

export function useLive(): Live {
  const data = shallowRef<Overview | null>(null);
  const refusal = shallowRef<Refusal | null>(null);
  const how = ref<How>("asking");
  const heardMs = ref(Date.now());
  const nowMs = ref(Date.now());
  let stream: EventSource | null = null;
  let failures = 0;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let over = false;
  let asking = false;

  async function again(): Promise<void> {
    if (asking) return;
    asking = true;
    try {
      const answer = await told(api.GET("/v1/overview"));
      if (over) return;
      data.value = answer;
      heardMs.value = Date.now();
      refusal.value = null;
    } catch (error) {
      if (!over) refusal.value = asRefusal(error);
    } finally {
      asking = false;
    }
  }

  function listen(): void {
    if (over || stream || document.hidden) return;
    clearTimeout(retry);
    stream = new EventSource(fileUrl("/v1/overview/live"));
    stream.onmessage = (event: MessageEvent<string>) => {
      const look = JSON.parse(event.data) as Shapes["LiveOverview"];
      heardMs.value = nowMs.value = Date.now();
      how.value = "live";
      failures = 0;
      refusal.value = null;
      if (look.overview) data.value = look.overview;
    };
    stream.addEventListener("ended", () => void again()); // which says why, in words
    stream.onerror = broken; // the browser's own patience does not grow
  }

  function broken(): void {
    close();
    if (over) return;
    how.value = "polling";
    const waitMs = Math.min(AGAIN_MS_MAX, AGAIN_MS * 2 ** failures++) * (0.75 + Math.random() / 2);
    retry = setTimeout(listen, waitMs);
  }

  function close(): void {
    stream?.close();
    stream = null;
  }

  function seen(): void {
    if (document.hidden) {
      close();
      clearTimeout(retry);
      how.value = "asking";
    } else if (!stream) {
      failures = 0;
      void again();
      listen();
    }
  }

  const clock = setInterval(() => {
    nowMs.value = Date.now();
    if (document.hidden) return;
    if (stream && how.value === "live" && nowMs.value - heardMs.value > SILENT_MS) broken();
    if (how.value === "polling" && nowMs.value - heardMs.value > POLL_MS) void again();
  }, 1_000);
  document.addEventListener("visibilitychange", seen);
  onScopeDispose(() => {
    over = true;
    close();
    clearTimeout(retry);
    clearInterval(clock);
    document.removeEventListener("visibilitychange", seen);
  });

  // First the answer that can say no in words; where it does, there is nothing to watch.
  void again().then(() => (refusal.value?.status === 403 ? undefined : listen()));
  return {
    data,
    refusal,
    how,
    agoS: computed(() => Math.max(0, Math.round((nowMs.value - heardMs.value) / 1_000))),
    again,
  };
}
