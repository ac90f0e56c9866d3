/** Words for scopes, sources and reasons that the server has as codes; what is somebody's own word stays as it is. */
import { i18n } from "../../frame/words";

function named(key: string, otherwise: string): string {
  return i18n.global.te(key) ? i18n.global.t(key) : otherwise;
}

export function scopeName(scope: string): string {
  if (scope === "*") return i18n.global.t("persons.everything");
  return scope === "promotional" ? i18n.global.t("persons.promotions") : scope;
}

export const sourceName = (source: string): string => named(`persons.said_in.${source}`, source);

/** Why a number is stopped: our own reasons are "inbound: r", "complaint: 12321", "withdrawn: form". */
export function reasonName(reason: string): string {
  const ours = /^(inbound|complaint|withdrawn): (.*)$/s.exec(reason);
  if (!ours) return reason;
  const [, kind = "", what = ""] = ours;
  const from = kind === "complaint" ? named(`persons.from.${what}`, what) : sourceName(what);
  return i18n.global.t(`persons.stopped_by.${kind}`, { what: kind === "inbound" ? what : from });
}
