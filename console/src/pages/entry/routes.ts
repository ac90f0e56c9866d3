/** Sign-in, sign-up, invitations and what somebody sets for themselves. */
import type { RouteRecordRaw } from "vue-router";

export const ENTRY: RouteRecordRaw[] = [
  {
    path: "/sign-in",
    component: () => import("./SignIn.vue"),
    meta: { title: "entry.sign_in", open: true },
  },
  {
    path: "/sign-up",
    component: () => import("./SignUp.vue"),
    meta: { title: "entry.sign_up", open: true },
  },
  {
    path: "/invitation",
    component: () => import("./Invitation.vue"),
    meta: { title: "entry.invitation", open: true },
  },
  { path: "/me", component: () => import("./Me.vue"), meta: { title: "nav.me" } },
];
