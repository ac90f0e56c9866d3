/** What the statistics page is asked, as its address says it, and the query of the API that follows. */
import { computed, type ComputedRef } from "vue";
import type { Shapes } from "../../api/client";
import { useQuery } from "../../frame/query";
import { DAY_MS, dayOf, HOUR_MS, midnight, told, ZONE } from "./china";

export const DIMENSIONS = [
  "channel",
  "operator",
  "province",
  "template",
  "cause",
  "status",
  "purpose",
  "country",
] as const;
export type Dimension = (typeof DIMENSIONS)[number];
export const PERIODS = ["today", "yesterday", "7d", "30d", "custom"] as const;
export const COMPARES = ["none", "day", "week"] as const;
export const GROUPS = ["time", ...DIMENSIONS] as const;
export const GROUPS_MAX = 3;

/** As GET /v1/statistics takes it, and the filters of POST /v1/exports. */
export interface Question {
  by?: Shapes["By"];
  group?: Shapes["Group"][];
  from: string;
  to: string;
  zone: string;
  status?: Shapes["Status"][];
  cause?: Shapes["Cause"][];
  purpose?: Shapes["Purpose"][];
  template?: string[];
  channel?: string[];
  country?: string[];
  operator?: string[];
  province?: string[];
}

export interface Span {
  from: number;
  to: number;
}

export type State = Record<"period" | "from" | "to" | "by" | "compare" | "group" | "map" | Dimension, string>;

export interface Asked {
  state: State;
  span: ComputedRef<Span>;
  before: ComputedRef<Span | null>;
  shiftMs: ComputedRef<number>;
  by: ComputedRef<"hour" | "day">;
  groups: ComputedRef<string[]>;
  finalOnly: ComputedRef<boolean>;
  key: ComputedRef<string>; // changes whenever something else is asked
  chosen: (dimension: Dimension) => string[];
  choose: (dimension: Dimension, values: string[]) => void;
  question: (span: Span, by: Shapes["By"], group?: readonly string[], without?: Dimension) => Question;
}

export function useAsked(): Asked {
  const state = useQuery<State>({
    period: "7d",
    from: "",
    to: "",
    by: "auto",
    compare: "week",
    group: "operator",
    map: "rate",
    channel: "",
    operator: "",
    province: "",
    template: "",
    cause: "",
    status: "",
    purpose: "",
    country: "",
  });

  const span = computed<Span>(() => {
    const now = Date.now();
    const today = midnight(dayOf(now));
    const to = Math.ceil((now + 1) / HOUR_MS) * HOUR_MS; // the hour that runs is part of it
    const days = { today: 0, "7d": 6, "30d": 29 }[state.period];
    if (days !== undefined) return { from: today - days * DAY_MS, to };
    if (state.period === "yesterday") return { from: today - DAY_MS, to: today };
    const [first, last] = [midnight(state.from), midnight(state.to)];
    if (Number.isNaN(first) || Number.isNaN(last) || last < first) return { from: today, to };
    return { from: first, to: Math.max(first + HOUR_MS, Math.min(to, last + DAY_MS)) };
  });
  const by = computed<"hour" | "day">(() => {
    const long = span.value.to - span.value.from;
    if (state.by === "hour" && long <= 32 * DAY_MS) return "hour";
    if (state.by === "day") return "day";
    return long <= 2 * DAY_MS ? "hour" : "day";
  });
  const shiftMs = computed(() => ({ day: DAY_MS, week: 7 * DAY_MS })[state.compare] ?? 0);
  const before = computed(() =>
    shiftMs.value ? { from: span.value.from - shiftMs.value, to: span.value.to - shiftMs.value } : null,
  );
  const groups = computed(() =>
    state.group
      .split(",")
      .filter((one) => (GROUPS as readonly string[]).includes(one))
      .slice(0, GROUPS_MAX),
  );

  function chosen(dimension: Dimension): string[] {
    return state[dimension] ? state[dimension].split(",") : [];
  }

  function choose(dimension: Dimension, values: string[]): void {
    state[dimension] = values.join(",");
  }

  function question(
    wanted: Span,
    by: Shapes["By"],
    group: readonly string[] = [],
    without?: Dimension,
  ): Question {
    const asked: Question = { by, from: told(wanted.from), to: told(wanted.to), zone: ZONE };
    const dimensions = group.filter((one) => one !== "time");
    if (dimensions.length) asked.group = dimensions as Shapes["Group"][];
    for (const dimension of DIMENSIONS)
      if (dimension !== without && state[dimension])
        (asked as unknown as Record<string, string[]>)[dimension] = chosen(dimension);
    return asked;
  }

  return {
    state,
    span,
    before,
    shiftMs,
    by,
    groups,
    // An accepted message has no channel yet, and neither cause nor final status: these leave only final ones.
    finalOnly: computed(() => ["channel", "cause", "status"].some((one) => state[one as Dimension] !== "")),
    key: computed(() =>
      JSON.stringify([
        span.value,
        by.value,
        state.compare,
        state.group,
        ...DIMENSIONS.map((one) => state[one]),
      ]),
    ),
    chosen,
    choose,
    question,
  };
}
