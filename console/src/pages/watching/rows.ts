/** Rows of statistics: what follows from their counts. */
import type { Shapes } from "../../api/client";

export type Row = Shapes["Row"];
type Counted = Pick<
  Row,
  "accepted" | "delivered" | "undelivered" | "expired" | "unknown" | "refused" | "cancelled"
>;

/** Messages that left and are final: what a delivery rate is of. */
export function left(row: Counted): number {
  return row.delivered + row.undelivered + row.expired + row.unknown;
}

export function final(row: Counted): number {
  return left(row) + row.refused + row.cancelled;
}

/** Messages that are not final yet; counts of a moment may overlap by one or two. */
export function open(row: Counted): number {
  return Math.max(0, row.accepted - final(row));
}

export function failed(row: Counted): number {
  return row.undelivered + row.expired + row.unknown;
}

export function rate(row: Counted): number | null {
  const all = left(row);
  return all > 0 ? row.delivered / all : null;
}

/** Sum counts; latencies cannot be summed and are left out. */
export function sum(rows: Row[]): Row {
  const whole = { ...NOTHING };
  for (const row of rows) {
    for (const name of COUNTS) whole[name] += row[name];
    if (row.cost_micro !== null) whole.cost_micro = (whole.cost_micro ?? 0) + row.cost_micro;
  }
  whole.delivery_rate = rate(whole);
  return whole;
}

const COUNTS = [
  "accepted",
  "delivered",
  "undelivered",
  "expired",
  "unknown",
  "refused",
  "cancelled",
  "parts",
  "price_micro",
] as const;

export const NOTHING: Row = {
  at: null,
  status: null,
  cause: null,
  purpose: null,
  template: null,
  channel: null,
  country: null,
  operator: null,
  province: null,
  accepted: 0,
  delivered: 0,
  undelivered: 0,
  expired: 0,
  unknown: 0,
  refused: 0,
  cancelled: 0,
  parts: 0,
  price_micro: 0,
  cost_micro: null,
  delivery_rate: null,
  latency_ms_p50: null,
  latency_ms_p95: null,
};

/** How something changed: 0.12 is 12 % more; null where there was nothing before. */
export function change(now: number | null | undefined, before: number | null | undefined): number | null {
  return now == null || !before ? null : (now - before) / before;
}

/** Rows by a key, in the order of their first. */
export function grouped<K>(rows: Row[], key: (row: Row) => K): Map<K, Row[]> {
  const groups = new Map<K, Row[]>();
  for (const row of rows) {
    const name = key(row);
    const group = groups.get(name);
    if (group) group.push(row);
    else groups.set(name, [row]);
  }
  return groups;
}
