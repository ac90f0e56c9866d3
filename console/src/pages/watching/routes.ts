/** Overview, first steps, statistics, alarms. */
import type { RouteRecordRaw } from "vue-router";

export const WATCHING: RouteRecordRaw[] = [];
