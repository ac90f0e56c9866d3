/** Where the console begins: styles, words, router; what happens when a sign-in ends. */
import { createApp } from "vue";
import "element-plus/theme-chalk/base.css";
import "element-plus/theme-chalk/dark/css-vars.css";
import "./styles/tokens.css";
import "./styles/page.css";
import App from "./App.vue";
import { onEnded } from "./api/client";
import { language } from "./frame/preferences";
import { router } from "./frame/router";
import { forget, user } from "./frame/session";
import { i18n, speak } from "./frame/words";

onEnded(() => {
  if (user.value === null) return; // not signed in at all
  forget();
  const here = router.currentRoute.value.fullPath;
  void router.push({ path: "/sign-in", query: { to: here, ended: "1" } });
});

await speak(language.value);
createApp(App).use(i18n).use(router).mount("#app");
