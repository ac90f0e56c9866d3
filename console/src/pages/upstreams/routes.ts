/** Channels, routes and the configuration as one document. */
import type { RouteRecordRaw } from "vue-router";

export const UPSTREAMS: RouteRecordRaw[] = [
  { path: "/channels", component: () => import("./Channels.vue"), meta: { title: "nav.channels" } },
  {
    path: "/channels/new",
    component: () => import("./NewChannel.vue"),
    meta: { title: "upstreams.new.title" },
  },
  { path: "/channels/:id", component: () => import("./Channel.vue"), meta: { title: "upstreams.channel" } },
  { path: "/routes", component: () => import("./Rules.vue"), meta: { title: "nav.routes" } },
  {
    path: "/routes/dry-run",
    component: () => import("./DryRun.vue"),
    meta: { title: "upstreams.dry.title" },
  },
  {
    path: "/configuration",
    component: () => import("./Configuration.vue"),
    meta: { title: "nav.configuration" },
  },
  {
    path: "/configuration/difference",
    component: () => import("./Difference.vue"),
    meta: { title: "upstreams.configuration.difference" },
  },
  {
    path: "/configuration/import",
    component: () => import("./Import.vue"),
    meta: { title: "upstreams.configuration.import" },
  },
];
