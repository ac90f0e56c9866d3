/** One message, lists, exports and other jobs. */
import type { RouteRecordRaw } from "vue-router";

export const SENDING: RouteRecordRaw[] = [];
