/** Where which page is. Every page is a chunk of its own; `tenant` stays in the address while the platform acts for one. */
import { createRouter, createWebHistory, type RouteRecordRaw } from "vue-router";
import { saying } from "../api/client";
import { PAGES } from "../pages";
import { isPlatform, known } from "./session";
import { i18n } from "./words";

declare module "vue-router" {
  interface RouteMeta {
    title: string; // key of the words
    open?: boolean; // for who is not signed in
  }
}

const routes: RouteRecordRaw[] = [
  ...PAGES,
  { path: "/:rest(.*)*", component: () => import("./NotFound.vue"), meta: { title: "frame.not_found" } },
];

export const router = createRouter({
  history: createWebHistory("/console/"),
  routes,
  scrollBehavior: (to, from, saved) => saved ?? (to.path === from.path ? undefined : { top: 0 }),
});

router.beforeEach(async (to, from) => {
  if (to.meta.open) return true;
  if (!(await known())) return { path: "/sign-in", query: to.fullPath === "/" ? {} : { to: to.fullPath } };
  if (!isPlatform.value) return true;
  if (to.query["tenant"] === undefined && from.query["tenant"] !== undefined && !leaving) {
    return { ...to, query: { ...to.query, tenant: from.query["tenant"] } };
  }
  const wanted = Number(to.query["tenant"]);
  saying.tenant = Number.isSafeInteger(wanted) && wanted > 0 ? wanted : null;
  return true;
});

router.afterEach((to) => {
  leaving = false;
  document.title = `${i18n.global.t(to.meta.title)} · ${i18n.global.t("frame.name")}`;
});

let leaving = false;

/** Act for a tenant from now on, or (null) for none. */
export async function actFor(tenant: number | null): Promise<void> {
  const { tenant: _left, ...query } = router.currentRoute.value.query;
  leaving = true;
  const path = router.currentRoute.value.path;
  await router.push({ path, query: tenant === null ? query : { ...query, tenant: String(tenant) } });
}
