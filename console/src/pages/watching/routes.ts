/** Overview, statistics, alarms. */
import type { RouteRecordRaw } from "vue-router";

export const WATCHING: RouteRecordRaw[] = [
  { path: "/", component: () => import("./Overview.vue"), meta: { title: "nav.overview" } },
  { path: "/statistics", component: () => import("./Statistics.vue"), meta: { title: "nav.statistics" } },
  { path: "/alarms", component: () => import("./Alarms.vue"), meta: { title: "nav.alarms" } },
];
