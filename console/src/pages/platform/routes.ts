/** Reviews, tenants, qualification, people, audit, policies. */
import type { RouteRecordRaw } from "vue-router";

export const PLATFORM: RouteRecordRaw[] = [
  { path: "/reviews", component: () => import("./Reviews.vue"), meta: { title: "nav.reviews" } },
  { path: "/reviews/:id", component: () => import("./Review.vue"), meta: { title: "platform.review" } },
  { path: "/tenants", component: () => import("./Tenants.vue"), meta: { title: "nav.tenants" } },
  { path: "/tenants/:id", component: () => import("./Tenant.vue"), meta: { title: "platform.tenant" } },
  {
    path: "/qualification",
    component: () => import("./Qualification.vue"),
    meta: { title: "nav.qualification" },
  },
  { path: "/people", component: () => import("./People.vue"), meta: { title: "nav.people" } },
  { path: "/audit", component: () => import("./Audit.vue"), meta: { title: "nav.audit" } },
  {
    path: "/announcements",
    component: () => import("./Announcements.vue"),
    meta: { title: "nav.announcements" },
  },
  { path: "/policies", component: () => import("./Policies.vue"), meta: { title: "nav.policies" } },
];
