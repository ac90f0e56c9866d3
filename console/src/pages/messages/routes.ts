/** Messages and one message's whole story. */
import type { RouteRecordRaw } from "vue-router";

export const MESSAGES: RouteRecordRaw[] = [];
