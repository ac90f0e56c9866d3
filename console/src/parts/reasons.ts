/**
 * Why something was refused, in the user's language. The API says `detail.reason` in English; the Chinese wordings are
 * found by it, with holes in braces for what changes. tests/console/test_reasons.py sees that none is missing.
 */
import { computed, shallowRef } from "vue";
import { language } from "../frame/preferences";
import { i18n } from "../frame/words";

interface Wording {
  matches: RegExp;
  names: string[];
  words: string;
}

const HOLE = /\{(\w+)\}/g;
const chinese = shallowRef<Record<string, string> | null>(null);
let asked = false;

async function load(): Promise<void> {
  if (asked) return;
  asked = true;
  try {
    chinese.value = (await import("../locales/reasons.zh.json")).default;
  } catch {
    chinese.value = {}; // what the API said is better than nothing
  }
}

/** What has holes; that with most words of its own comes first, so that "at most {n} lines" goes before "at most {n}". */
const wordings = computed<Wording[]>(() =>
  Object.entries(chinese.value ?? {})
    .filter(([reason]) => reason.includes("{"))
    .sort(([one], [other]) => other.replace(HOLE, "").length - one.replace(HOLE, "").length)
    .map(([reason, words]) => ({
      matches: new RegExp(`^${reason.split(HOLE).map(piece).join("")}$`, "s"),
      names: [...reason.matchAll(HOLE)].map((hole) => hole[1]!),
      words,
    })),
);

function piece(text: string, place: number): string {
  return place % 2 ? "(.+?)" : text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** Words of ours that stand in a hole are said in Chinese, too. */
function filling(name: string, value: string): string {
  if (name === "reason") return inWords(value);
  const kind = name.replace(/_.*$/, "");
  const key = { state: "states.any.", role: "frame.role_", document: "documents.kind." }[kind];
  return key && i18n.global.te(key + value) ? i18n.global.t(key + value) : value;
}

/** Return a reason as the user reads it; nothing while the words are on their way. */
export function inWords(reason: string): string {
  if (!reason || language.value !== "zh") return reason;
  if (chinese.value === null) {
    void load();
    return "";
  }
  const known = chinese.value[reason];
  if (known !== undefined) return known;
  for (const { matches, names, words } of wordings.value) {
    const found = matches.exec(reason);
    if (!found) continue;
    const values = Object.fromEntries(names.map((name, at) => [name, found[at + 1]!]));
    return words.replace(HOLE, (_hole, name: string) => filling(name, values[name] ?? ""));
  }
  return reason;
}

/** Return what a refusal's code means to who sends, Number.Blacklisted; what has no words stays as it is. */
export function codeInWords(code: string, otherwise = code): string {
  const key = `sending.left_out.${code.replaceAll(".", "_")}`;
  return i18n.global.te(key) ? i18n.global.t(key) : otherwise;
}

/** Return what a job or a file ended with, as people read it: `Code.Name (parameter: x, reason: y)`, or words of ours. */
export function failureInWords(error: string): string {
  const reason = /\breason: (.*?)\)?$/s.exec(error)?.[1];
  const said = [codeInWords(error.split(/[ :(]/)[0]!, ""), reason ? inWords(reason) : ""].filter(Boolean);
  return said.length ? said.join(" · ") : inWords(error);
}
