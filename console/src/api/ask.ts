/** Asking the server from a page: useAsk() for what is shown, useDoing() for what a button does. */
import {
  computed,
  onScopeDispose,
  ref,
  shallowRef,
  watch,
  type Ref,
  type ShallowRef,
  type WatchSource,
} from "vue";
import { Refusal } from "./client";

export interface Asking<T> {
  data: ShallowRef<T | null>; // kept while asked again, so nothing jumps
  refusal: ShallowRef<Refusal | null>;
  loading: Ref<boolean>;
  again: () => Promise<void>;
}

/**
 * Ask at once, again whenever `on` changes, and every `everyMs` while the page is looked at. Only the newest answer
 * counts.
 */
export function useAsk<T>(
  ask: () => Promise<T>,
  options: { on?: WatchSource | WatchSource[]; everyMs?: number } = {},
): Asking<T> {
  const data = shallowRef<T | null>(null);
  const refusal = shallowRef<Refusal | null>(null);
  const loading = ref(false);
  let newest = 0;

  async function again(): Promise<void> {
    const mine = ++newest;
    loading.value = true;
    try {
      const answer = await ask();
      if (mine !== newest) return;
      data.value = answer;
      refusal.value = null;
    } catch (error) {
      if (mine === newest) refusal.value = asRefusal(error);
    } finally {
      if (mine === newest) loading.value = false;
    }
  }

  if (options.on) watch(options.on, () => void again());
  if (options.everyMs) {
    const timer = setInterval(() => {
      if (!document.hidden && !loading.value) void again();
    }, options.everyMs);
    onScopeDispose(() => clearInterval(timer));
  }
  onScopeDispose(() => newest++);
  void again();
  return { data, refusal, loading, again };
}

/** Whether a person is asked something before the doing goes on: nothing is busy until they have answered. */
export const asking = ref(false);

export interface Doing<A extends unknown[]> {
  busy: Readonly<Ref<boolean>>;
  refusal: ShallowRef<Refusal | null>;
  run: (...args: A) => Promise<boolean>; // whether it was done
}

/** Do something once at a time; a refusal is kept for `<Refused>` to show. */
export function useDoing<A extends unknown[]>(work: (...args: A) => Promise<unknown>): Doing<A> {
  const running = ref(false);
  const busy = computed(() => running.value && !asking.value);
  const refusal = shallowRef<Refusal | null>(null);
  async function run(...args: A): Promise<boolean> {
    if (running.value) return false;
    running.value = true;
    refusal.value = null;
    try {
      await work(...args);
      return true;
    } catch (error) {
      refusal.value = asRefusal(error);
      return false;
    } finally {
      running.value = false;
    }
  }
  return { busy, refusal, run };
}

/** Return what was thrown as a Refusal; a fault of ours is told in the console of the browser, too. */
export function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  console.error(error);
  return new Refusal("Console", error instanceof Error ? error.message : String(error), 0, "");
}
