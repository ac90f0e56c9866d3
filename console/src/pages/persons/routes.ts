/** What concerns the persons written to: stops, complaints, consents, what is known of somebody, how long it is kept. */
import type { RouteRecordRaw } from "vue-router";

export const PERSONS: RouteRecordRaw[] = [
  {
    path: "/opt-outs",
    component: () => import("./Suppressions.vue"),
    props: { kind: "opt_out" },
    meta: { title: "nav.opt_outs", phone: true },
  },
  {
    path: "/blocks",
    component: () => import("./Suppressions.vue"),
    props: { kind: "block" },
    meta: { title: "nav.blocks", phone: true },
  },
  {
    path: "/suppressions",
    component: () => import("./MayWrite.vue"),
    meta: { title: "persons.may_write", phone: true },
  },
  {
    path: "/complaints",
    component: () => import("./Complaints.vue"),
    meta: { title: "nav.complaints", phone: true },
  },
  {
    path: "/complaints/:id",
    component: () => import("./Complaint.vue"),
    meta: { title: "persons.complaint", phone: true },
  },
  {
    path: "/consents",
    component: () => import("./Consents.vue"),
    meta: { title: "nav.consents", phone: true },
  },
  {
    path: "/persons",
    component: () => import("./Persons.vue"),
    meta: { title: "nav.persons", phone: true },
  },
  {
    path: "/retention",
    component: () => import("./Retention.vue"),
    meta: { title: "nav.retention", phone: true },
  },
];
