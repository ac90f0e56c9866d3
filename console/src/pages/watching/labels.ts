/** What a value of a dimension is called. */
import { useI18n } from "vue-i18n";
import { useNames } from "./names";

export function useLabels(): { label: (dimension: string, value: string | null | undefined) => string } {
  const { t, te } = useI18n();
  const { operatorName, provinceName, countryName } = useNames();

  function label(dimension: string, value: string | null | undefined): string {
    if (dimension === "operator") return operatorName(value);
    if (dimension === "province") return provinceName(value);
    if (dimension === "country") return countryName(value);
    if (dimension === "channel" && !value) return t("watching.no_channel_yet");
    if (!value) return "–";
    const key = {
      cause: `watching.cause.${value}`,
      purpose: `watching.purpose.${value}`,
      status: `states.any.${value}`,
    }[dimension];
    return key && te(key) ? t(key) : value;
  }

  return { label };
}
