/** A policy as a form has it: its numbers with their ranges, what differs from the defaults, chances in words. */
import type { Shapes } from "../../api/client";
import { count } from "../../frame/format";
import defaults from "./defaults.json";

export type Policy = Shapes["Policy"];
export type Rules = Shapes["Rules"];
/** What holds where nothing was said; tests/console/test_policy_defaults.py sees that it is what the server goes by. */
export const DEFAULTS = defaults as Policy;

type NumbersOf<T> = { [K in keyof T]: T[K] extends number ? K : never }[keyof T];
export interface NumberField<N> {
  name: N;
  min: number;
  max: number;
}
type PolicyNumber = NumberField<NumbersOf<Policy>>;
function field<N>(name: N, min: number, max: number): NumberField<N> {
  return { name, min, max };
}

// Somewhat wider than what is allowed: the checker says in words what is wrong with a value.
export const CODE: PolicyNumber[] = [
  field("digits", 1, 16),
  field("validity_s", 1, 3_600),
  field("tries", 1, 100),
];
export const LIMITS: Record<"number" | "address" | "device", PolicyNumber[]> = {
  number: [
    field("number_minute", 1, 5),
    field("number_hour", 1, 20),
    field("number_day", 1, 100),
    field("number_soft", 0, 40),
  ],
  address: [
    field("address_5_minutes", 1, 10_000),
    field("address_hour", 1, 10_000),
    field("address_soft_hour", 0, 10_000),
  ],
  device: [field("device_hour", 1, 1_000), field("device_soft_10_minutes", 0, 1_000)],
};
export const SENDS: PolicyNumber[] = [field("sends", 1, 20)];
export const WINDOWS: NumberField<NumbersOf<Rules>>[] = [
  field("window_prefix", 1, 1_000),
  field("window_country", 5, 100_000),
];
export const MEDIA = ["sms", "sms_other_route", "email"];

export function copied(policy: Policy): Policy {
  return JSON.parse(JSON.stringify(policy)) as Policy;
}

export function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** 0.000005 → 1 : 200,000. */
export function chance(value: number): string {
  if (value <= 0) return "0";
  return value >= 0.5 ? value.toFixed(1) : `1 : ${count(Math.round(1 / value))}`;
}

/** What is written with commas, blanks or lines between. */
export function parted(text: string): string[] {
  return text.split(/[\s,;，；、]+/).filter(Boolean);
}
