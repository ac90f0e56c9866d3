/** How a funnel's row is read: the steps with what was lost before each. */
import type { Shapes } from "../../api/client";

export type Row = Shapes["FunnelRow"];
export const GROUPS = ["app", "scene", "country", "operator", "channel"] as const;
export type Grouping = (typeof GROUPS)[number];

export const STEPS = ["opened", "requested", "accepted", "delivered", "checked", "done"] as const;
export type Step = (typeof STEPS)[number];

/** Of those who came to the step before, the share that went no further; null where nothing can be said. */
export function lost(row: Row, step: Step): number | null {
  return step === "opened" ? null : row[`lost_before_${step}`];
}

/** Forms are counted only where a page with a site key shows them: without any, the funnel begins at the request. */
export function steps(row: Row): Step[] {
  return STEPS.filter((step) => step !== "opened" || row.opened > 0);
}
