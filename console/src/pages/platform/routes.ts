/** Reviews, tenants, qualification, people, audit, policies, retention, configuration. */
import type { RouteRecordRaw } from "vue-router";

export const PLATFORM: RouteRecordRaw[] = [];
