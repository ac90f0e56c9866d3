/** First steps, apps, keys, webhooks, the signature debugger, examples. */
import type { RouteRecordRaw } from "vue-router";

export const DEVELOPERS: RouteRecordRaw[] = [
  {
    path: "/first-steps",
    component: () => import("./FirstSteps.vue"),
    meta: { title: "nav.first_steps", phone: true },
  },
  { path: "/apps", component: () => import("./Apps.vue"), meta: { title: "nav.apps", phone: true } },
  {
    path: "/apps/:id",
    component: () => import("./OneApp.vue"),
    meta: { title: "developers.app", phone: true },
  },
  {
    path: "/webhooks",
    component: () => import("./Webhooks.vue"),
    meta: { title: "nav.webhooks", phone: true },
  },
  {
    path: "/signature-debugger",
    component: () => import("./Debugger.vue"),
    meta: { title: "nav.signature_debugger", phone: true },
  },
  {
    path: "/examples",
    component: () => import("./Examples.vue"),
    meta: { title: "nav.examples", phone: true },
  },
];
