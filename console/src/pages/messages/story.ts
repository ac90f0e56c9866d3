/** A message's story as moments in order of time: what happened, and what is waited for. Pure. */
import type { Shapes } from "../../api/client";

export type Story = Shapes["Story"];
export type Attempt = Shapes["Attempt"];
export type Reply = Shapes["InboundText"];
export type Delivery = Shapes["Delivery"];

/** What a message passed when it was accepted; the server keeps it as plain JSON. */
export interface Passed {
  passed?: string[];
  frequency?: { minute: number; hour: number; day: number; same_text_s: number };
  hours?: [number, number] | null;
  held?: string;
}

/** Why a channel was chosen. */
export interface Route {
  channel: string | null;
  rule: string | number | null;
  for?: { country?: string; operator?: string; purpose?: string };
  others?: { channel: string; why: string }[];
}

export type Moment =
  | { kind: "accepted"; at: string; passed: Passed | null }
  | { kind: "due"; at: string }
  | { kind: "handed"; at: string; attempt: number; route: Route | null; parts: Attempt[] }
  | { kind: "taken"; at: string; part: Attempt }
  | { kind: "unheard"; at: string; part: Attempt }
  | { kind: "report"; at: string; part: Attempt; all: boolean }
  | { kind: "ended"; at: string }
  | { kind: "notice"; at: string; delivery: Delivery }
  | { kind: "reply"; at: string; reply: Reply }
  | { kind: "waiting"; at: null; what: "channel" | "report" | "person" | "time"; until: string };

const FINAL = new Set(["delivered", "undelivered", "expired", "unknown", "refused", "cancelled"]);
export const isFinal = (story: Story): boolean => FINAL.has(story.status);

/** Whether it waits for a time of its own: a second is not worth telling. */
export const isLater = (story: Story): boolean =>
  Date.parse(story.due_at) - Date.parse(story.accepted_at) > 1_000;

export const passed = (story: Story): Passed | null => (story.decision as Passed | null) ?? null;

const route = (attempt: Attempt): Route | null =>
  (attempt.decision as { route?: Route } | null)?.route ?? null;

// What happens within one millisecond stands in the order in which it must have happened.
const ORDER = ["accepted", "due", "handed", "taken", "unheard", "report", "ended", "notice", "reply"];

export function moments(story: Story, deliveries: Delivery[], replies: Reply[]): Moment[] {
  const told: Exclude<Moment, { kind: "waiting" }>[] = [
    { kind: "accepted", at: story.accepted_at, passed: passed(story) },
  ];
  const left = story.attempts.length > 0;
  if (isLater(story) && (left || (!isFinal(story) && Date.parse(story.due_at) <= Date.now())))
    told.push({ kind: "due", at: story.due_at });
  for (const number of new Set(story.attempts.map((one) => one.attempt))) {
    const parts = story.attempts.filter((one) => one.attempt === number);
    const first = parts.reduce((a, b) => (a.sent_at <= b.sent_at ? a : b));
    told.push({ kind: "handed", at: first.sent_at, attempt: number, route: route(first), parts });
    if (parts.length === 1) told.push(...answers(first)); // of many, the table beneath says it
    told.push(...reports(parts));
  }
  if (story.done_at && !endsWithReport(story)) told.push({ kind: "ended", at: story.done_at });
  told.push(...deliveries.map((one) => ({ kind: "notice" as const, at: one.at, delivery: one })));
  told.push(...replies.map((one) => ({ kind: "reply" as const, at: one.came_at, reply: one })));
  told.sort((a, b) => Date.parse(a.at) - Date.parse(b.at) || ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind));
  return [...told, ...waiting(story)];
}

function answers(part: Attempt): { kind: "taken" | "unheard"; at: string; part: Attempt }[] {
  if (part.acked_at) return [{ kind: "taken", at: part.acked_at, part }];
  return part.unsure ? [{ kind: "unheard", at: part.sent_at, part }] : [];
}

/** One moment for each report; where parts of a long text were told the same, the table says it once. */
function reports(parts: Attempt[]): { kind: "report"; at: string; part: Attempt; all: boolean }[] {
  const said = parts.filter((one) => one.reported_at);
  const alike = said.every((one) => one.status === said[0]?.status && one.cause === said[0]?.cause);
  const shown = alike ? said.filter((one) => one.reported_at === latest(said)).slice(0, 1) : said;
  return shown.map((part) => ({
    kind: "report" as const,
    at: part.reported_at!,
    part,
    all: alike && said.length > 1,
  }));
}

function latest(parts: Attempt[]): string {
  return parts.map((one) => one.reported_at!).reduce((a, b) => (a >= b ? a : b));
}

function endsWithReport(story: Story): boolean {
  return story.attempts.some(
    (one) =>
      one.reported_at !== null &&
      one.status === story.status &&
      Math.abs(Date.parse(one.reported_at) - Date.parse(story.done_at!)) < 1_000,
  );
}

function waiting(story: Story): Moment[] {
  if (isFinal(story)) return [];
  const until = story.expires_at;
  if (story.status === "held") return [{ kind: "waiting", at: null, what: "person", until }];
  if (story.status === "submitted" && story.parts.some((one) => one.status === "submitted"))
    return [{ kind: "waiting", at: null, what: "report", until: "" }];
  if (Date.parse(story.due_at) > Date.now())
    return [{ kind: "waiting", at: null, what: "time", until: story.due_at }];
  return [{ kind: "waiting", at: null, what: "channel", until }];
}
