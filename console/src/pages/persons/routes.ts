/** Inbound texts, opt-outs, blocks, complaints, consents, a person's whole record. */
import type { RouteRecordRaw } from "vue-router";

export const PERSONS: RouteRecordRaw[] = [];
