/** Values of alarms in the unit of their kind, as people write and read them. */
import { useI18n } from "vue-i18n";
import type { Shapes } from "../../api/client";
import { count, lasting, money, share } from "../../frame/format";
import { currencyHere } from "../../parts/tenants";

export type Kind = Shapes["AlarmKind"];

/** Kinds that are counted over a window; the others are what they are just now. */
export const RATES: string[] = [
  "delivery_rate",
  "channel_success",
  "report_latency",
  "delivery_latency",
  "opt_out_rate",
];

/** What the API has for one of what somebody types: shares are typed in per cent, money in whole units. */
const SCALES: Record<string, number> = { share: 0.01, micro: 1_000_000 };

/** src/hongyan/schema/0012_alarms.sql and 0018_pumping.sql: the rules of every install, by their names. */
const FIRST: Record<string, string> = {
  "A channel has no session": "channel_down",
  "A channel delivers badly": "channel_success",
  "Reports of a channel come late": "report_latency",
  "Messages wait too long to leave": "backlog",
  "An app does not take its notices": "webhook_paused",
  "A filing ends soon": "filing_ends",
  "Many people opt out": "opt_out_rate",
  "Many people complain": "complaint_rate",
  "Codes are pumped": "pumping",
  "Codes are guessed": "guessing",
  "The budget for codes runs out": "code_budget",
};

export function typed(kind: Kind | undefined, threshold: number): number {
  return Number((threshold / (SCALES[kind?.unit ?? ""] ?? 1)).toPrecision(12));
}

export function stored(kind: Kind | undefined, entered: number): number {
  return Number((entered * (SCALES[kind?.unit ?? ""] ?? 1)).toPrecision(12));
}

export function useValues(): {
  shown: (kind: Kind | undefined, value: number) => string;
  kindName: (kind: Kind | undefined, code: string) => string;
  ruleName: (name: string) => string;
  seconds: (s: number) => string;
} {
  const { t, locale } = useI18n();

  function seconds(s: number): string {
    if (s < 120) return `${Math.round(s)} ${t("watching.unit.s")}`;
    if (s < 7_200) return `${Number((s / 60).toFixed(1))} ${t("watching.rule.minutes")}`;
    if (s < 172_800) return `${Number((s / 3_600).toFixed(1))} ${t("watching.rule.hours")}`;
    return `${Number((s / 86_400).toFixed(1))} ${t("watching.unit.d")}`;
  }

  function shown(kind: Kind | undefined, value: number): string {
    if (kind?.unit === "share") return share(value);
    if (kind?.unit === "micro") return money(value, currencyHere());
    if (kind?.unit === "s") return value < 10 ? lasting(value * 1_000) : seconds(value);
    if (kind?.unit === "d") return `${count(Math.floor(value))} ${t("watching.unit.d")}`;
    if (kind?.unit === "hits") return String(Number(value.toPrecision(2)));
    return count(value);
  }

  function kindName(kind: Kind | undefined, code: string): string {
    if (!kind) return code;
    return locale.value === "zh" ? kind.zh : kind.en.charAt(0).toUpperCase() + kind.en.slice(1);
  }

  /** The rules an install begins with have English names; they are said in the user's language while nobody renames them. */
  function ruleName(name: string): string {
    const first = FIRST[name];
    return first ? t(`watching.rule.first.${first}`) : name;
  }

  return { shown, kindName, ruleName, seconds };
}
