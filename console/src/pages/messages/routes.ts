/** Messages, one message's whole story, and what people text back. */
import type { RouteRecordRaw } from "vue-router";

export const MESSAGES: RouteRecordRaw[] = [
  {
    path: "/messages",
    component: () => import("./Messages.vue"),
    meta: { title: "nav.messages" },
  },
  {
    path: "/messages/:id",
    component: () => import("./Message.vue"),
    meta: { title: "messages.message" },
  },
  {
    path: "/inbound",
    component: () => import("./Inbound.vue"),
    meta: { title: "nav.inbound" },
  },
];
