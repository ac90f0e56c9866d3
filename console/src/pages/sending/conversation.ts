/** What happens on the virtual phone: messages that arrive, and what somebody answers on it. */
import { onScopeDispose, ref, shallowRef } from "vue";
import { api, Refusal, told, type Shapes } from "../../api/client";
import { asRefusal, useDoing } from "../../api/ask";
import { outcome, REPLIES } from "./sandbox";

export type Story = Shapes["Story"];
export type Letter = Shapes["Letter"];
export interface Said {
  key: string;
  text: string;
  mine?: boolean;
  at: string;
  letter?: Letter; // of what the phone said
}

const FINAL = new Set(["delivered", "undelivered", "expired", "unknown", "refused", "cancelled"]);
const SOON_MS = 250;
const SOON_TIMES = 12;
const LATER_MS = 2_000;
const LATER_TIMES = 60;
const LONG_MS = 10_000; // it waits for its hours, or for a report that is late
const ANSWER_TIMES = 12;

export function isFinal(story: Story): boolean {
  return FINAL.has(story.status);
}

export function useConversation() {
  const said = ref<Said[]>([]);
  const story = shallowRef<Story | null>(null);
  const text = ref(""); // of the message that is followed
  const lost = shallowRef<Refusal | null>(null); // why it is followed no more
  let newest = 0;
  onScopeDispose(() => newest++);

  /** Follow a message until nothing more becomes of it; it is on the phone once it was delivered. */
  async function follow(id: string, written: string, to: string): Promise<void> {
    const mine = ++newest;
    story.value = null;
    lost.value = null;
    text.value = written;
    for (let times = 0; mine === newest; times++) {
      try {
        const now = await told(api.GET("/v1/messages/{id}", { params: { path: { id } } }));
        if (mine !== newest) return;
        lost.value = null;
        story.value = now;
        if (isFinal(now)) break;
      } catch (error) {
        lost.value = asRefusal(error);
        if (lost.value.code !== "Network" && lost.value.status < 500) return;
      }
      const waitMs = times < SOON_TIMES ? SOON_MS : times < LATER_TIMES ? LATER_MS : LONG_MS;
      await new Promise((resume) => setTimeout(resume, waitMs));
    }
    if (mine !== newest || story.value?.status !== "delivered") return;
    said.value.push({ key: id, text: written, at: story.value.done_at ?? new Date().toISOString() });
    if (outcome(to) === REPLIES) await hear(id, mine);
  }

  /** Wait for what a number that answers by itself texts back. */
  async function hear(id: string, mine: number): Promise<void> {
    for (let times = 0; times < ANSWER_TIMES && mine === newest; times++) {
      const { items } = await told(api.GET("/v1/inbound", { params: { query: { limit: 20 } } }));
      const letter = items.find((one) => one.message_id === id);
      if (letter && mine === newest) return say(letter);
      await new Promise((resume) => setTimeout(resume, SOON_MS * 2));
    }
  }

  function say(letter: Letter): void {
    if (said.value.some((one) => one.key === letter.id)) return;
    said.value.push({ key: letter.id, text: letter.text ?? "", mine: true, at: letter.came_at, letter });
  }

  const replying = useDoing(async (answer: string) => {
    const body = { message_id: story.value!.id, text: answer };
    say(await told(api.POST("/v1/sandbox/replies", { body })));
  });

  return { said, story, text, lost, follow, replying };
}
