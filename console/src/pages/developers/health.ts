/** How a webhook fares, as one word, and why a POST failed. */
import type { Shapes } from "../../api/client";
import { i18n } from "../../frame/words";

export const MANY = 1_000; // what waits is counted up to here

export function health(one: Shapes["WebhookTerms"]): {
  value: string;
  tone: "good" | "warn" | "bad" | "still";
} {
  if (!one.active) return { value: "removed", tone: "still" };
  if (one.paused_until && new Date(one.paused_until) > new Date()) return { value: "paused", tone: "bad" };
  return one.failures ? { value: "failing", tone: "warn" } : { value: "well", tone: "good" };
}

/** Why a POST came to nothing, in words: what src/hongyan/egress.py says is English and may have more behind a colon. */
export function failureName(error: string): string {
  const [what = "", ...more] = error.split(": ");
  const key = `developers.failure.${what.replaceAll(" ", "_")}`;
  return i18n.global.te(key) ? [i18n.global.t(key), ...more].join(": ") : error;
}
