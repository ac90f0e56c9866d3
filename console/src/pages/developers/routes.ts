/** First steps, apps, keys, webhooks, the signature debugger, examples. */
import type { RouteRecordRaw } from "vue-router";

export const DEVELOPERS: RouteRecordRaw[] = [
  {
    path: "/first-steps",
    component: () => import("./FirstSteps.vue"),
    meta: { title: "nav.first_steps" },
  },
  { path: "/apps", component: () => import("./Apps.vue"), meta: { title: "nav.apps" } },
  {
    path: "/apps/:id",
    component: () => import("./OneApp.vue"),
    meta: { title: "developers.app" },
  },
  {
    path: "/webhooks",
    component: () => import("./Webhooks.vue"),
    meta: { title: "nav.webhooks" },
  },
  {
    path: "/signature-debugger",
    component: () => import("./Debugger.vue"),
    meta: { title: "nav.signature_debugger" },
  },
  {
    path: "/examples",
    component: () => import("./Examples.vue"),
    meta: { title: "nav.examples" },
  },
];
