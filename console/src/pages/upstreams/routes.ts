/** Channels and routes. */
import type { RouteRecordRaw } from "vue-router";

export const UPSTREAMS: RouteRecordRaw[] = [];
