/** All words in Chinese. */
import { gathered } from "./gathered";

export default gathered(
  import.meta.glob<Record<string, unknown>>("./zh/*.json", { eager: true, import: "default" }),
);
