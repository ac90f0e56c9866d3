/** Days and hours of China, in which everything is counted, whatever zone the browser is in. */
export const ZONE = "Asia/Shanghai";
export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
const AHEAD_MS = 8 * HOUR_MS; // China has no summer time

/** 2026-11-25T14:00:00Z → 2026-11-25, the day in China. */
export function dayOf(at: number | string | Date): string {
  return shifted(at).toISOString().slice(0, 10);
}

/** 2026-11-25T14:00:00Z → 22:00, the hour in China. */
export function hourOf(at: number | string | Date): string {
  return `${shifted(at).toISOString().slice(11, 13)}:00`;
}

/** Midnight in China at the beginning of a day (2026-11-25), in ms. */
export function midnight(day: string): number {
  return Date.parse(`${day}T00:00:00+08:00`);
}

/** As the API takes a moment. */
export function told(ms: number): string {
  return new Date(ms).toISOString();
}

function shifted(at: number | string | Date): Date {
  return new Date(new Date(at).getTime() + AHEAD_MS);
}
