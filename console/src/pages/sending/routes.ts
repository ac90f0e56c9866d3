/** One message, lists, exports and other jobs. */
import type { RouteRecordRaw } from "vue-router";

export const SENDING: RouteRecordRaw[] = [
  { path: "/send", component: () => import("./Send.vue"), meta: { title: "nav.send" } },
  { path: "/lists", component: () => import("./Lists.vue"), meta: { title: "nav.lists" } },
  { path: "/lists/new", component: () => import("./ListNew.vue"), meta: { title: "sending.list_new" } },
  { path: "/lists/:id", component: () => import("./List.vue"), meta: { title: "sending.list" } },
  { path: "/exports", component: () => import("./Exports.vue"), meta: { title: "nav.exports" } },
];
