/** What scenes, states, places and operators of verification codes are called. */
import { useI18n } from "vue-i18n";
import type { Shapes } from "../../api/client";
import type { Tone } from "../../parts/tones";

export const SCENES: readonly Shapes["Scene"][] = [
  "login",
  "register",
  "bind",
  "change-number",
  "pay",
  "reset",
];
export const STATES: readonly Shapes["State"][] = [
  "pending",
  "approved",
  "expired",
  "max_attempts_reached",
  "canceled",
  "failed",
];
const TONES: Record<string, Tone> = {
  pending: "brand",
  approved: "good",
  canceled: "still",
  expired: "warn",
  max_attempts_reached: "bad",
  failed: "bad",
  clear: "good",
  alarmed: "warn",
  paused: "bad",
};

export function tone(state: string): Tone {
  return TONES[state] ?? "still";
}

export interface Names {
  sceneName: (scene: string | null | undefined) => string;
  countryName: (code: string | null | undefined) => string;
  operatorName: (slug: string | null | undefined) => string;
  mediumName: (medium: string) => string;
  reasonName: (reason: string) => string;
}

export function useNames(): Names {
  const { t, te, locale } = useI18n();

  function named(key: string, word: string): string {
    return te(key) ? t(key) : word;
  }

  return {
    sceneName: (scene) =>
      scene ? named(`codes.scene.${scene.replace("-", "_")}`, scene) : t("codes.unknown"),
    operatorName: (slug) => (slug ? named(`codes.operator.${slug}`, slug) : t("codes.unknown")),
    mediumName: (medium) => named(`codes.medium.${medium}`, medium),
    reasonName: (reason) => named(`codes.why.${reason.replace(".", "_")}`, reason),
    countryName: (code) => {
      if (!code) return t("codes.unknown");
      try {
        return `${new Intl.DisplayNames(locale.value, { type: "region" }).of(code) ?? code} ${code}`;
      } catch {
        return code;
      }
    },
  };
}
