/** Prices, ledger, bills. */
import type { RouteRecordRaw } from "vue-router";

export const MONEY: RouteRecordRaw[] = [];
