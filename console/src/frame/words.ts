/** The words of the console in the user's language; one file an area under locales/. */
import { nextTick, watch } from "vue";
import { createI18n } from "vue-i18n";
import { language, type Language } from "./preferences";

type Words = Record<string, unknown>;
const FILES: Record<Language, () => Promise<{ default: Words }>> = {
  zh: () => import("../locales/zh"),
  en: () => import("../locales/en"),
};

export const i18n = createI18n({
  legacy: false,
  locale: language.value,
  fallbackLocale: false,
  messages: {},
});
const loaded = new Set<Language>();

/** Load a language and speak it. */
export async function speak(wanted: Language): Promise<void> {
  if (!loaded.has(wanted)) {
    i18n.global.setLocaleMessage(wanted, (await FILES[wanted]()).default as never);
    loaded.add(wanted);
  }
  (i18n.global.locale as { value: string }).value = wanted;
  await nextTick();
}

watch(language, (now) => void speak(now));
