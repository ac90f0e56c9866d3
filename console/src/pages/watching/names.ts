/** What operators, provinces and countries are called. */
import { useI18n } from "vue-i18n";

export interface Names {
  operatorName: (slug: string | null | undefined) => string;
  provinceName: (code: string | null | undefined) => string;
  countryName: (code: string | null | undefined) => string;
}

export function useNames(): Names {
  const { t, te, locale } = useI18n();

  function named(key: string, code: string | null | undefined): string {
    if (!code) return t("watching.not_known");
    return te(`${key}.${code}`) ? t(`${key}.${code}`) : code;
  }

  return {
    operatorName: (slug) => named("watching.operator", slug),
    provinceName: (code) => named("watching.province", code?.replace(/^CN-/, "")),
    countryName: (code) => {
      if (!code) return t("watching.not_known");
      try {
        return `${new Intl.DisplayNames(locale.value, { type: "region" }).of(code) ?? code} ${code}`;
      } catch {
        return code;
      }
    },
  };
}
