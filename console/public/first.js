// Before the first paint, so that nobody who wants it dark sees it bright first. See src/frame/preferences.ts.
(function () {
  var theme = null;
  try {
    theme = localStorage.getItem("hongyan.theme");
  } catch (_) {
    // a browser that keeps nothing
  }
  var dark = theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.classList.toggle("dark", dark);
})();
