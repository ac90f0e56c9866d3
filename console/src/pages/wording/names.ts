/** What operators, countries and languages are called, and which of two languages an answer is read in. */
import { i18n } from "../../frame/words";
import { language } from "../../frame/preferences";

export const OPERATORS = ["cmcc", "unicom", "telecom", "broadnet"] as const;

/** The words of the API that come in both languages. */
export function said(words: { zh: string; en: string }): string {
  return language.value === "zh" ? words.zh : words.en;
}

export function operatorName(operator: string): string {
  const key = `wording.operator.${operator}`;
  return i18n.global.te(key) ? i18n.global.t(key) : operator;
}

function named(kind: "region" | "language", code: string): string {
  try {
    const speaking = language.value === "zh" ? "zh-CN" : "en-GB";
    return new Intl.DisplayNames([speaking], { type: kind }).of(code) ?? code;
  } catch {
    return code; // no well-formed code
  }
}

export const countryName = (code: string): string => named("region", code);
export const languageName = (code: string): string => named("language", code);

export const LANGUAGES = "zh zh-Hant en ja ko fr de es pt ru ar th vi id ms it tr hi".split(" ");
