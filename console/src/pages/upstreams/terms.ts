/** The fields of a channel that every kind has. */
import type { Shapes } from "../../api/client";

export type Terms = Pick<
  Shapes["ChannelRow"],
  | "name"
  | "parts_per_s"
  | "sessions"
  | "access_number"
  | "report_parts"
  | "currency"
  | "cost_micro"
  | "filing_demanded"
  | "extension_digits"
>;

export const NEW: Terms = {
  name: "",
  parts_per_s: 0,
  sessions: 1,
  access_number: "",
  report_parts: "every",
  currency: "CNY",
  cost_micro: 0,
  filing_demanded: false,
  extension_digits: 0,
};

export function termsOf(row: Terms): Terms {
  const names = Object.keys(NEW) as (keyof Terms)[];
  return Object.fromEntries(names.map((name) => [name, row[name]])) as unknown as Terms;
}
