/** Ask before something that cannot be taken back. */
import { ElMessageBox } from "element-plus";
import { asking } from "../api/ask";
import { i18n } from "../frame/words";

/** Return whether the person agreed. */
export async function confirmed(
  title: string,
  text: string,
  yes: string,
  dangerous = true,
): Promise<boolean> {
  asking.value = true;
  try {
    await ElMessageBox.confirm(text, title, {
      confirmButtonText: yes,
      cancelButtonText: i18n.global.t("parts.cancel"),
      confirmButtonClass: dangerous ? "el-button--danger" : "",
      autofocus: false,
    });
    return true;
  } catch {
    return false;
  } finally {
    asking.value = false;
  }
}

/** Return the reason somebody gave, or null if they did not go on. */
export async function reasonFor(
  title: string,
  text: string,
  yes: string,
  most = 200,
): Promise<string | null> {
  asking.value = true;
  try {
    const answer = await ElMessageBox.prompt(text, title, {
      confirmButtonText: yes,
      cancelButtonText: i18n.global.t("parts.cancel"),
      inputValidator: (typed) =>
        typed?.trim()
          ? typed.length <= most || i18n.global.t("parts.too_long")
          : i18n.global.t("parts.needed"),
    });
    return (answer as { value: string }).value.trim();
  } catch {
    return null;
  } finally {
    asking.value = false;
  }
}
