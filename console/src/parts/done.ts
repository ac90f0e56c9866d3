/** Say that something was done, in passing. */
import { ElMessage } from "element-plus";

export function done(text: string): void {
  ElMessage({ message: text, type: "success", grouping: true });
}
