/** Words for operators and causes that are also shown beside raw codes. */
import { i18n } from "../../frame/words";

export function operatorName(operator: string): string {
  const key = `messages.operator.${operator}`;
  return i18n.global.te(key) ? i18n.global.t(key) : operator;
}

export function place(of: { country?: string; operator?: string; province?: string }): string {
  return [of.country, of.province, of.operator && operatorName(of.operator)].filter(Boolean).join(" · ");
}
