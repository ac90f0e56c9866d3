/** How a webhook fares, as one word. */
import type { Shapes } from "../../api/client";
import type { Tone } from "../../parts/tones";

export const MANY = 1_000; // what waits is counted up to here

export function health(one: Shapes["WebhookTerms"]): { value: string; tone: Tone } {
  if (!one.active) return { value: "removed", tone: "still" };
  if (one.paused_until && new Date(one.paused_until) > new Date()) return { value: "paused", tone: "bad" };
  return one.failures ? { value: "failing", tone: "warn" } : { value: "well", tone: "good" };
}
