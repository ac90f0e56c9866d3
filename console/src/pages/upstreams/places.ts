/** Countries, operators and purposes in words, and what can be chosen of them. */
import { language } from "../../frame/preferences";
import { i18n } from "../../frame/words";
import type { Shapes } from "../../api/client";

export type Purpose = Shapes["Purpose"];

/** Where a rule or a price holds, as a form has it; "" and null are all. */
export interface Place {
  tenant_id: number | null;
  country: string;
  operator: string;
  purpose: Purpose | "";
}

export const PURPOSES: Purpose[] = ["otp", "transactional", "promotional"];
export const OPERATORS = ["cmcc", "unicom", "telecom", "broadnet", "ported"];
/** Offered first; any other can be typed. */
export const COUNTRIES =
  "CN HK MO TW SG JP KR MY TH VN ID PH IN AU NZ US CA GB DE FR IT ES NL RU BR AE SA".split(" ");

/** CN → China (CN); null → everywhere. */
export function country(code: string | null): string {
  if (code === null || code === "*") return i18n.global.t("upstreams.everywhere");
  try {
    const names = new Intl.DisplayNames(language.value === "zh" ? "zh-CN" : "en", { type: "region" });
    return `${names.of(code) ?? code} (${code})`;
  } catch {
    return code; // typed by hand and none yet
  }
}

export function operator(slug: string | null): string {
  if (slug === null || slug === "*" || slug === "") return i18n.global.t("upstreams.every_operator");
  const key = `upstreams.operator.${slug}`;
  return i18n.global.te(key) ? i18n.global.t(key) : slug;
}

export function purpose(one: string | null | undefined): string {
  return one == null ? i18n.global.t("upstreams.every_purpose") : i18n.global.t(`upstreams.purpose.${one}`);
}
