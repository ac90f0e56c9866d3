/** A template as the forms of this area need it: its texts by language, its variables in the order of the text. */
import type { Shapes } from "../../api/client";

export type Template = Shapes["TemplateRow"];
export type TemplateText = Shapes["TemplateText"];
const PLACE = /\$?\{([A-Za-z][A-Za-z0-9_]{0,24})\}/g; // src/hongyan/vocab/wording.py

/** The names of the variables as they come in a text, each once. */
export function namesIn(body: string): string[] {
  return [...new Set([...body.matchAll(PLACE)].map((match) => match[1]!))];
}

/** The text with what is typed so far; what is not typed stands there as its name in brackets. */
export function filled(body: string, signature: string, values: Record<string, string>): string {
  const text = body.replace(PLACE, (_whole, name: string) => values[name] || `[${name}]`);
  return signature ? `【${signature}】${text}` : text;
}

/** A key that makes asking again harmless. crypto.randomUUID is not there without https. */
export function onceKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (octet) =>
    octet.toString(16).padStart(2, "0"),
  ).join("");
}
