/** Signatures, filings, templates, words. */
import type { RouteRecordRaw } from "vue-router";

export const WORDING: RouteRecordRaw[] = [];
