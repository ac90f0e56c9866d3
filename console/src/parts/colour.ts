/** Our colours for what is drawn on a canvas, which knows no CSS variables. Reading one follows the theme. */
import { dark } from "../frame/preferences";

/** Return a colour as it is now: colour("--good"). */
export function colour(name: string): string {
  void dark.value; // so that a computed option is made anew when the theme changes
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Whether somebody wants nothing to move. */
export const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
