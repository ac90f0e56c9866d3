/** Orders of route rules: groups in the order they are tried, rules of one group share the load. */
import type { Shapes } from "../../api/client";

export type Rule = Shapes["RouteRuleRow"];
export type Order = number[][];

/** The groups of the rules as they stand. */
export function orderOf(rules: Rule[]): Order {
  const groups = new Map<number, number[]>();
  for (const rule of rules) groups.set(rule.priority, [...(groups.get(rule.priority) ?? []), rule.id]);
  return [...groups].sort(([one], [other]) => one - other).map(([, ids]) => ids);
}

function without(order: Order, id: number): Order {
  return order.map((group) => group.filter((one) => one !== id));
}
function full(order: Order): Order {
  return order.filter((group) => group.length);
}
export function placeOf(order: Order, id: number): number {
  return order.findIndex((group) => group.includes(id));
}

/** One step earlier (-1) or later (1): out of a shared group into one of its own, or past the next group. */
export function moved(order: Order, id: number, step: -1 | 1): Order {
  const at = placeOf(order, id);
  const alone = order[at]!.length === 1;
  if (alone && (at + step < 0 || at + step >= order.length)) return order;
  const next = without(order, id);
  const place = alone ? at + (step < 0 ? -1 : 2) : at + (step < 0 ? 0 : 1);
  next.splice(place, 0, [id]);
  return full(next);
}

/** Into the group before: share its load. */
export function joined(order: Order, id: number, group: number): Order {
  if (order[group]?.includes(id)) return order;
  const next = without(order, id);
  next[group]?.push(id);
  return full(next);
}

/** Into a group of its own before the group at `place`. */
export function placed(order: Order, id: number, place: number): Order {
  const next = without(order, id);
  next.splice(place, 0, [id]);
  return full(next);
}
