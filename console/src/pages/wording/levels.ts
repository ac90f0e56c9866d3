/** How the levels of word lists look. */
import type { Shapes } from "../../api/client";
import type { Level as MarkLevel } from "./spans";

type Level = Shapes["Level"];
export const LEVELS: Level[] = ["block", "hold", "warn"];
export const LEVEL_TONES: Record<Level, "bad" | "warn" | "still"> = {
  block: "bad",
  hold: "warn",
  warn: "still",
};
export const LEVEL_MARKS: Record<Level, MarkLevel> = { block: "error", hold: "warning", warn: "advice" };
