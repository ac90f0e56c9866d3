/** Messages, one message's whole story, and what people text back. */
import type { RouteRecordRaw } from "vue-router";

export const MESSAGES: RouteRecordRaw[] = [
  {
    path: "/messages",
    component: () => import("./Messages.vue"),
    meta: { title: "nav.messages", phone: true },
  },
  {
    path: "/messages/:id",
    component: () => import("./Message.vue"),
    meta: { title: "messages.message", phone: true },
  },
  {
    path: "/inbound",
    component: () => import("./Inbound.vue"),
    meta: { title: "nav.inbound", phone: true },
  },
];
