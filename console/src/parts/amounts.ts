/** Amounts as text and in millionths, digit by digit: 0.045 has no exact fraction. */
const MOST = 9_000_000_000; // whole units: beyond it millionths are no longer whole numbers of JavaScript

/** 1,234.5 → 1234500000; null for what is no amount. */
export function microOf(typed: string): number | null {
  const found = /^([+-]?)(\d{1,10})(?:\.(\d{0,6}))?$/.exec(typed.trim().replaceAll(",", ""));
  if (!found || Number(found[2]) > MOST) return null;
  const micro = Number(found[2]) * 1_000_000 + Number((found[3] ?? "").padEnd(6, "0"));
  return found[1] === "-" ? -micro : micro;
}

/** 45000 → 0.045; at least two decimals. */
export function written(micro: number): string {
  const whole = Math.floor(Math.abs(micro) / 1_000_000);
  const rest = String(Math.abs(micro) % 1_000_000)
    .padStart(6, "0")
    .replace(/0{1,4}$/, "");
  return `${micro < 0 ? "-" : ""}${whole}.${rest}`;
}
