/** Prices, ledger, bills. */
import type { RouteRecordRaw } from "vue-router";

export const MONEY: RouteRecordRaw[] = [
  { path: "/prices", component: () => import("./Prices.vue"), meta: { title: "nav.prices" } },
  { path: "/ledger", component: () => import("./Ledger.vue"), meta: { title: "nav.ledger" } },
  { path: "/bills", component: () => import("./Bills.vue"), meta: { title: "nav.bills" } },
  { path: "/bills/:id", component: () => import("./Bill.vue"), meta: { title: "money.bill" } },
];
