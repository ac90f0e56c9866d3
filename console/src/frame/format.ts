/** Numbers, money and times as people read them, in the chosen language and the browser's zone. */
import { language } from "./preferences";

const MICRO = 1_000_000;

function locale(): string {
  return language.value === "zh" ? "zh-CN" : "en-GB";
}

/** 12345 → 12,345; null → a dash. */
export function count(value: number | null | undefined): string {
  return value == null ? "–" : new Intl.NumberFormat(locale()).format(value);
}

/** 1234567 → 1.23M or 123.5万. */
export function short(value: number | null | undefined): string {
  if (value == null) return "–";
  return new Intl.NumberFormat(locale(), { notation: "compact", maximumFractionDigits: 1 }).format(value);
}

/** 0.9987 → 99.87%. A share below one is never shown as 100%. */
export function share(value: number | null | undefined, digits = 2): string {
  if (value == null) return "–";
  const scale = 100 * 10 ** digits;
  const cut = value < 1 ? Math.min(Math.round(value * scale), scale - 1) / scale : value;
  return new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: digits }).format(cut);
}

/** Micro-units of a currency → ¥1.23; up to 4 decimals where a price has them. */
export function money(micro: number | null | undefined, currency = "CNY"): string {
  if (micro == null) return "–";
  return new Intl.NumberFormat(locale(), {
    style: "currency",
    currency,
    currencyDisplay: "narrowSymbol",
    minimumFractionDigits: 2,
    maximumFractionDigits: 4,
  }).format(micro / MICRO);
}

/** Milliseconds → 85 ms, 2.4 s, 3 min. */
export function lasting(ms: number | null | undefined): string {
  if (ms == null) return "–";
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`;
  return `${(ms / 3_600_000).toFixed(1)} h`;
}

/** 600 → 10 minutes, 7200 → 2 hours, 86400 → 1 day: seconds in the largest unit that is whole. */
export function period(seconds: number): string {
  const steps = { day: 86_400, hour: 3_600, minute: 60, second: 1 };
  const [unit, length] = Object.entries(steps).find(([, each]) => seconds % each === 0)!;
  return new Intl.NumberFormat(locale(), { style: "unit", unit, unitDisplay: "long" }).format(
    seconds / length,
  );
}

/** Octets → 1.5 MB. */
export function size(octets: number | null | undefined): string {
  if (octets == null) return "–";
  const units = ["B", "kB", "MB", "GB"];
  let value = octets;
  let unit = 0;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit++;
  }
  return `${value.toFixed(unit && value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** 2026-11-25 22:04:11 in the viewer's zone. */
export function moment(at: string | Date | null | undefined, withMs = false): string {
  if (!at) return "–";
  const date = typeof at === "string" ? new Date(at) : at;
  if (Number.isNaN(date.getTime())) return String(at);
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day} ${time}${withMs ? `.${String(date.getMilliseconds()).padStart(3, "0")}` : ""}`;
}

/** 2026-11-25. */
export function day(at: string | Date | null | undefined): string {
  return moment(at).slice(0, 10);
}

/** "3 minutes ago", "in 2 days". */
export function ago(at: string | Date, now = Date.now()): string {
  const seconds = (new Date(at).getTime() - now) / 1_000;
  const steps: [Intl.RelativeTimeFormatUnit, number][] = [
    ["day", 86_400],
    ["hour", 3_600],
    ["minute", 60],
  ];
  const speaking = new Intl.RelativeTimeFormat(locale(), { numeric: "auto" });
  for (const [unit, length] of steps)
    if (Math.abs(seconds) >= length) return speaking.format(Math.round(seconds / length), unit);
  return speaking.format(Math.round(seconds), "second");
}

/** Who did something, without the number that the audit tells people apart by: user:7 a@b.cn → a@b.cn. */
export function person(actor: string): string {
  return actor.replace(/^user:\d+ /, "");
}

/** The viewer's zone, as people know it: Asia/Shanghai. */
export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
