/** Signatures, filings, templates, words. */
import type { RouteRecordRaw } from "vue-router";

export const WORDING: RouteRecordRaw[] = [
  { path: "/signatures", component: () => import("./Signatures.vue"), meta: { title: "nav.signatures" } },
  {
    path: "/signatures/new",
    component: () => import("./SignatureNew.vue"),
    meta: { title: "wording.signature_new" },
  },
  {
    path: "/signatures/:id",
    component: () => import("./Signature.vue"),
    meta: { title: "wording.signature" },
  },
  { path: "/filings", component: () => import("./Filings.vue"), meta: { title: "nav.filings" } },
  { path: "/templates", component: () => import("./Templates.vue"), meta: { title: "nav.templates" } },
  {
    path: "/templates/new",
    component: () => import("./TemplateNew.vue"),
    meta: { title: "wording.template_new" },
  },
  { path: "/templates/:id", component: () => import("./Template.vue"), meta: { title: "wording.template" } },
  { path: "/words", component: () => import("./Words.vue"), meta: { title: "nav.words" } },
  { path: "/words/:id", component: () => import("./WordList.vue"), meta: { title: "wording.word_list" } },
];
