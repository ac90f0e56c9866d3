/** All words in English. */
import { gathered } from "./gathered";

export default gathered(
  import.meta.glob<Record<string, unknown>>("./en/*.json", { eager: true, import: "default" }),
);
