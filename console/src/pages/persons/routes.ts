/** What concerns the persons written to: stops, complaints, consents, what is known of somebody, how long it is kept. */
import type { RouteRecordRaw } from "vue-router";

export const PERSONS: RouteRecordRaw[] = [
  {
    path: "/opt-outs",
    component: () => import("./Suppressions.vue"),
    props: { kind: "opt_out" },
    meta: { title: "nav.opt_outs" },
  },
  {
    path: "/blocks",
    component: () => import("./Suppressions.vue"),
    props: { kind: "block" },
    meta: { title: "nav.blocks" },
  },
  {
    path: "/suppressions",
    component: () => import("./MayWrite.vue"),
    meta: { title: "persons.may_write" },
  },
  {
    path: "/complaints",
    component: () => import("./Complaints.vue"),
    meta: { title: "nav.complaints" },
  },
  {
    path: "/complaints/:id",
    component: () => import("./Complaint.vue"),
    meta: { title: "persons.complaint" },
  },
  {
    path: "/consents",
    component: () => import("./Consents.vue"),
    meta: { title: "nav.consents" },
  },
  {
    path: "/persons",
    component: () => import("./Persons.vue"),
    meta: { title: "nav.persons" },
  },
  {
    path: "/retention",
    component: () => import("./Retention.vue"),
    meta: { title: "nav.retention" },
  },
];
