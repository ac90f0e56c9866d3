/** How near the last day of a filing is; days are China's, as the operators'. */
const WARN_DAYS = 60;
const DAY_MS = 86_400_000;

export function daysLeft(until: string | null | undefined): number | null {
  if (!until) return null;
  const today = new Intl.DateTimeFormat("en-CA", { timeZone: "Asia/Shanghai" }).format(Date.now());
  return Math.round((Date.parse(until) - Date.parse(today)) / DAY_MS);
}

export function endsSoon(until: string | null | undefined): boolean {
  const days = daysLeft(until);
  return days !== null && days <= WARN_DAYS;
}

/** The day so many days from now, as 2027-03-01. */
export function dayIn(days: number): string {
  return new Intl.DateTimeFormat("en-CA", { timeZone: "Asia/Shanghai" }).format(Date.now() + days * DAY_MS);
}
