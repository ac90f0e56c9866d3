/** The colours of states; page.css says what each paints: <span class="toned good">. */
export type Tone = "good" | "warn" | "bad" | "still" | "brand";

const STATES: Record<Tone, string> = {
  good: "delivered approved ok active up qualified done filed paid matched sent verified",
  warn: "waiting reviewing held filing paused pausing draining submitted scheduled expiring lapsing queued checking running unsure new open",
  bad: "undelivered rejected failed refused lapsed expired down suspended disabled stopped broken unknown",
  brand: "accepted draft ready live",
  still: "cancelled none withdrawn closed ended inactive",
};
const TONES = new Map(
  (Object.keys(STATES) as Tone[]).flatMap((tone) =>
    STATES[tone].split(" ").map((state): [string, Tone] => [state, tone]),
  ),
);

/** Return a state's colour: the same state looks the same everywhere. */
export function toneOf(state: string): Tone {
  return TONES.get(state) ?? "still";
}
