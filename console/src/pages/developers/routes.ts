/** Apps, keys, webhooks, the signature debugger, examples. */
import type { RouteRecordRaw } from "vue-router";

export const DEVELOPERS: RouteRecordRaw[] = [];
