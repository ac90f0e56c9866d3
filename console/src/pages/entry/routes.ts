/** Sign-in, sign-up, invitations and what somebody sets for themselves. */
import type { RouteRecordRaw } from "vue-router";

export const ENTRY: RouteRecordRaw[] = [
  {
    path: "/sign-in",
    component: () => import("./SignIn.vue"),
    meta: { title: "entry.sign_in", open: true },
  },
];
