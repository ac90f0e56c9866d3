/** State of a page that lives in its address, so that it can be sent to somebody. */
import { reactive, watch } from "vue";
import { useRoute, useRouter } from "vue-router";

/**
 * Return an object of strings that mirrors the address's query: reading it follows the address, writing it replaces
 * the address. A value equal to its default is not written. At most one page of a view may own a name.
 */
export function useQuery<T extends Record<string, string>>(defaults: T): T {
  const route = useRoute();
  const router = useRouter();
  const mine = route.path;
  const state = reactive({ ...defaults }) as T;
  const names = Object.keys(defaults);

  function read(): void {
    if (route.path !== mine) return;
    for (const name of names) {
      const value = route.query[name];
      const next = typeof value === "string" ? value : defaults[name]!;
      if (state[name] !== next) (state as Record<string, string>)[name] = next;
    }
  }
  read();
  watch(() => route.query, read);
  watch(
    () => names.map((name) => state[name]),
    () => {
      if (route.path !== mine) return;
      const query = { ...route.query };
      for (const name of names)
        if (state[name] === defaults[name]) delete query[name];
        else query[name] = state[name]!;
      void router.replace({ query, hash: route.hash });
    },
  );
  return state;
}
