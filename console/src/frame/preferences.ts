/** What this browser's user likes: language, theme. Kept in localStorage; public/first.js reads the theme first. */
import { ref, watch } from "vue";
import { saying } from "../api/client";

export type Language = "zh" | "en";
export type Theme = "light" | "dark" | "auto";

function kept(name: string): string | null {
  try {
    return localStorage.getItem(`hongyan.${name}`);
  } catch {
    return null;
  }
}

function keep(name: string, value: string): void {
  try {
    localStorage.setItem(`hongyan.${name}`, value);
  } catch {
    // a browser that keeps nothing: until it is closed
  }
}

const said = kept("language") ?? navigator.language;
export const language = ref<Language>(said.startsWith("zh") ? "zh" : "en");
export const theme = ref<Theme>((["light", "dark"] as const).find((one) => one === kept("theme")) ?? "auto");
export const dark = ref(false);

const bright = matchMedia("(prefers-color-scheme: dark)");

function paint(): void {
  dark.value = theme.value === "dark" || (theme.value === "auto" && bright.matches);
  document.documentElement.classList.toggle("dark", dark.value);
}

watch(
  language,
  (now) => {
    keep("language", now);
    saying.language = now;
    document.documentElement.lang = now === "zh" ? "zh-CN" : "en";
  },
  { immediate: true },
);
watch(theme, (now) => {
  keep("theme", now);
  paint();
});
bright.addEventListener("change", paint);
paint();
