/** Verification codes: looking them up, how far people come, the guard against pumping, policies, site keys, conversions. */
import type { RouteRecordRaw } from "vue-router";

export const CODES: RouteRecordRaw[] = [
  {
    path: "/verifications",
    component: () => import("./Verifications.vue"),
    meta: { title: "nav.verifications" },
  },
  {
    path: "/verifications/:id",
    component: () => import("./Verification.vue"),
    meta: { title: "codes.verification" },
  },
  { path: "/funnel", component: () => import("./Funnel.vue"), meta: { title: "nav.funnel" } },
  { path: "/pumping", component: () => import("./Pumping.vue"), meta: { title: "nav.pumping" } },
  {
    path: "/verification-policies",
    component: () => import("./VerificationPolicies.vue"),
    meta: { title: "nav.verification_policies" },
  },
  { path: "/site-keys", component: () => import("./SiteKeys.vue"), meta: { title: "nav.site_keys" } },
  { path: "/conversions", component: () => import("./Conversions.vue"), meta: { title: "nav.conversions" } },
];
