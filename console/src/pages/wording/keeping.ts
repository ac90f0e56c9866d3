/** What is written here is not lost by a slip: Ctrl+S saves, and leaving asks first. */
import { onActivated, onBeforeUnmount, onDeactivated, onMounted } from "vue";
import { onBeforeRouteLeave } from "vue-router";
import { i18n } from "../../frame/words";
import { confirmed } from "../../parts/confirmed";

export function useSaveKey(save: () => unknown): void {
  const onKey = (event: KeyboardEvent): void => {
    if (
      !(event.ctrlKey || event.metaKey) ||
      event.shiftKey ||
      event.altKey ||
      event.key.toLowerCase() !== "s"
    )
      return;
    event.preventDefault();
    save();
  };
  const listen = (): void => addEventListener("keydown", onKey);
  const stop = (): void => removeEventListener("keydown", onKey);
  onMounted(listen);
  onActivated(listen);
  onDeactivated(stop);
  onBeforeUnmount(stop);
}

/** Only in a page's own component. */
export function useUnsaved(dirty: () => boolean): void {
  const onLeave = (event: BeforeUnloadEvent): void => {
    if (dirty()) event.preventDefault();
  };
  onMounted(() => addEventListener("beforeunload", onLeave));
  onBeforeUnmount(() => removeEventListener("beforeunload", onLeave));
  onBeforeRouteLeave(async () => {
    const { t } = i18n.global;
    return !dirty() || (await confirmed(t("wording.unsaved"), t("wording.unsaved_text"), t("wording.leave")));
  });
}
