/** The last minutes of channels as this browser saw them: samples are kept while the console is open. */
import { shallowReactive } from "vue";
import type { Shapes } from "../../api/client";

type Standing = Shapes["ChannelStanding"];

export interface Sample {
  at: number; // ms
  rate: number;
  window: number | null; // share in use
  success: number | null;
  ack: number | null; // ms
  waiting: number;
}

const SAMPLES_MAX = 180;
const GAP_MS = 900; // the list and a page of one channel may both be asking
const seen = shallowReactive(new Map<number, Sample[]>());

export function windowShare(standing: Standing): number | null {
  return standing.window_size ? standing.window_used / standing.window_size : null;
}

/** What waits to leave by a channel: on its line, and before it. */
export function waitingOf(standing: Standing): number {
  return standing.queued + standing.waiting.reduce((sum, lane) => sum + lane, 0);
}

/** Keep how a channel stands now. */
export function note(channel: number, standing: Standing): void {
  const known = seen.get(channel) ?? [];
  const now = Date.now();
  const last = known.at(-1);
  if (last && now - last.at < GAP_MS) return;
  const sample: Sample = {
    at: now,
    rate: standing.submitted_per_s,
    window: windowShare(standing),
    success: standing.success,
    ack: standing.ack_ms_p95,
    waiting: waitingOf(standing),
  };
  seen.set(channel, [...known, sample].slice(-SAMPLES_MAX));
}

/** The samples of a channel, the oldest first. */
export function samples(channel: number): Sample[] {
  return seen.get(channel) ?? [];
}

/** What one session did in the last seconds: of the sums that gateways tell, what the oldest kept look differs by. */
export interface SessionPace {
  rate: number | null; // answers a second
  success: number | null; // taken, of those answered
  ack: number | null; // ms on average
}

interface Look {
  at: number;
  answered: number;
  not_taken: number;
  waited_ms: number;
}
const LOOKS_MS = 15_000;
const looks = new Map<string, Look[]>();

/** Keep a look at each session; ones that a gateway told before are passed over. */
export function noteSessions(channel: number, gateways: Shapes["AtGateway"][]): void {
  for (const { gateway, told_at, told } of gateways)
    for (const each of told.sessions as (Shapes["SessionTold"] & Partial<Look>)[]) {
      const key = `${channel}.${gateway}.${each.slot}`;
      const { answered = 0, not_taken = 0, waited_ms = 0 } = each;
      const look = { at: new Date(told_at).getTime(), answered, not_taken, waited_ms };
      const known = looks.get(key) ?? [];
      const last = known.at(-1);
      if (last && last.answered > answered)
        looks.set(key, [look]); // the gateway began anew
      else if (!last || last.at < look.at)
        looks.set(
          key,
          [...known, look].filter((one) => one.at >= look.at - LOOKS_MS),
        );
    }
}

export function paceOf(channel: number, gateway: number, slot: number): SessionPace {
  const known = looks.get(`${channel}.${gateway}.${slot}`) ?? [];
  const [first, last] = [known[0], known.at(-1)];
  if (!first || !last || first === last) return { rate: null, success: null, ack: null };
  const answered = last.answered - first.answered;
  return {
    rate: (answered / (last.at - first.at)) * 1_000,
    success: answered ? 1 - (last.not_taken - first.not_taken) / answered : null,
    ack: answered ? (last.waited_ms - first.waited_ms) / answered : null,
  };
}
