/** A verification's moments, in the order they came; those still to come are at the end. */
import type { Shapes } from "../../api/client";

export type Story = Shapes["VerificationStory"];
type Message = Story["messages"][number];

export type Moment = { at: string; ahead: boolean } & (
  | { kind: "asked" | "challenge" | "resend" | "expires" | "ended" | "proved" }
  | { kind: "sent" | "told"; message: Message; nth: number }
);

export function moments(story: Story, now: number): Moment[] {
  const found: Moment[] = [{ kind: "asked", at: story.created_at, ahead: false }];
  if (story.challenge !== "nothing") found.push({ kind: "challenge", at: story.created_at, ahead: false });
  story.messages.forEach((message, index) => {
    found.push({ kind: "sent", at: message.accepted_at, ahead: false, message, nth: index + 1 });
    if (message.done_at)
      found.push({ kind: "told", at: message.done_at, ahead: false, message, nth: index + 1 });
  });
  if (story.ended_at) found.push({ kind: "ended", at: story.ended_at, ahead: false });
  if (story.proved_at) found.push({ kind: "proved", at: story.proved_at, ahead: false });
  found.sort((one, other) => Date.parse(one.at) - Date.parse(other.at));
  if (story.status === "pending") {
    if (story.resend_at && Date.parse(story.resend_at) > now)
      found.push({ kind: "resend", at: story.resend_at, ahead: true });
    found.push({ kind: "expires", at: story.expires_at, ahead: true });
  }
  return found;
}
