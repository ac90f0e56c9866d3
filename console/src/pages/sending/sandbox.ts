/** Numbers that are nobody's: +86 199 0000 0000 to 0099. */
export const SANDBOX = "199000000";
export const REPLIES = 9; // the fate that texts back by itself

/** What the last two digits of a sandbox number ask for; null where the number is none. */
export function outcome(number: string): number | null {
  const digits = number.replace(/[\s-]/g, "").replace(/^(\+|00)86/, "");
  return new RegExp(`^${SANDBOX}\\d\\d$`).test(digits) ? Number(digits.slice(-2)) : null;
}
