/** What messages are searched by, as the address has it and as the API wants it. */
import type { Shapes } from "../../api/client";
import { between } from "../../parts/span";

export const NOTHING = {
  number: "",
  reference: "",
  status: "",
  cause: "",
  purpose: "",
  template: "",
  channel: "",
  app: "",
  span: "",
};
export type Wanted = typeof NOTHING;

export const STATUSES: readonly Shapes["Status"][] = [
  "accepted",
  "held",
  "submitted",
  "delivered",
  "undelivered",
  "expired",
  "unknown",
  "refused",
  "cancelled",
];
export const PURPOSES: readonly Shapes["Purpose"][] = ["otp", "transactional", "promotional"];
export const CAUSES: readonly Shapes["Cause"][] = [
  "absent",
  "invalid_number",
  "suspended",
  "unreachable",
  "handset",
  "blacklisted",
  "content_blocked",
  "rate_limited",
  "sign_unregistered",
  "no_route",
  "network",
  "ported",
  "expired",
  "rejected",
  "unsupported",
  "unknown",
  "no_report",
  "not_sent",
  "opted_out",
  "blocked",
  "cancelled",
  "no_channel",
];

export interface Filters {
  number?: string;
  reference?: string;
  status?: Shapes["Status"];
  cause?: Shapes["Cause"];
  purpose?: Shapes["Purpose"];
  template?: string;
  channel?: string;
  app_id?: number;
  from?: string;
  to?: string;
}

export function filters(wanted: Wanted): Filters {
  return {
    number: wanted.number || undefined,
    reference: wanted.reference || undefined,
    status: (wanted.status || undefined) as Shapes["Status"] | undefined,
    cause: (wanted.cause || undefined) as Shapes["Cause"] | undefined,
    purpose: (wanted.purpose || undefined) as Shapes["Purpose"] | undefined,
    template: wanted.template || undefined,
    channel: wanted.channel || undefined,
    app_id: Number(wanted.app) || undefined,
    ...between(wanted.span),
  };
}
