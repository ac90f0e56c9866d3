/** How fast counted work goes, from what is seen of it. */
import { ref, watch, type Ref } from "vue";

const WEIGHT = 0.4; // of the newest look

/** Rows a second (null until two looks differ) and the seconds that are left. */
export function usePace(
  done: () => number | null,
  total: () => number,
): { perS: Ref<number | null>; leftS: () => number | null } {
  const perS = ref<number | null>(null);
  let seen: { done: number; at: number } | null = null;
  watch(
    done,
    (now) => {
      const at = performance.now();
      if (now === null || (seen && now < seen.done)) {
        perS.value = null;
        seen = now === null ? null : { done: now, at };
        return;
      }
      if (seen && now > seen.done) {
        const fresh = ((now - seen.done) * 1_000) / Math.max(1, at - seen.at);
        perS.value = perS.value === null ? fresh : perS.value * (1 - WEIGHT) + fresh * WEIGHT;
      }
      if (!seen || now > seen.done) seen = { done: now, at };
    },
    { immediate: true },
  );
  const leftS = (): number | null => {
    const at = done();
    return perS.value && at !== null ? Math.max(0, total() - at) / perS.value : null;
  };
  return { perS, leftS };
}
