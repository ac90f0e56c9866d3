/** How good a password is, in a word: as control/passwords.py asks, and a little beyond. */

export interface Judgement {
  word: string;
  steps: number; // of 4
  tone: "" | "bad" | "warn" | "good";
  missing?: number; // characters
}

const LEAST = 12;
const LONG = 20;
const COMMON =
  /^(password|passw0rd|qwerty|asdf|admin|welcome|iloveyou|woaini|letmein|hongyan|changeme|123456|abc)/i;

export function judged(password: string, email: string): Judgement {
  const length = [...password].length;
  if (!length) return { word: "none", steps: 0, tone: "" };
  if (length < LEAST) return { word: "short", steps: 1, tone: "bad", missing: LEAST - length };
  const lower = password.toLowerCase();
  if (new Set(lower).size <= 3) return { word: "repeated", steps: 1, tone: "bad" };
  const local = email.split("@")[0]!.toLowerCase();
  if (local.length >= 4 && lower.includes(local)) return { word: "email", steps: 1, tone: "bad" };
  if (/^\d+$/.test(password) || COMMON.test(password)) return { word: "common", steps: 2, tone: "warn" };
  return length >= LONG
    ? { word: "strong", steps: 4, tone: "good" }
    : { word: "good", steps: 3, tone: "good" };
}
