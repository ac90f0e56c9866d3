/** What can be exported, by whom, and by which filters (src/hongyan/control/exports.py SOURCES). */
import type { Permission } from "../../frame/session";
import { may } from "../../frame/session";

export interface Source {
  what: "messages" | "inbound" | "statistics" | "ledger" | "audit";
  permission: Permission;
  everybody: boolean; // the platform may have that of all tenants at once
  span: boolean; // by time
  numbers: boolean; // has numbers that may be asked whole
  columns: string[];
}

export const SOURCES: Source[] = [
  {
    what: "messages",
    permission: "messages.read",
    everybody: false,
    span: true,
    numbers: true,
    columns:
      "id number text purpose status cause upstream_code signature template reference country operator province part_count price_micro refund_micro accepted_at due_at done_at".split(
        " ",
      ),
  },
  {
    what: "inbound",
    permission: "messages.read",
    everybody: false,
    span: true,
    numbers: true,
    columns: "id number text access_number message_id opt_out came_at".split(" "),
  },
  {
    what: "statistics",
    permission: "statistics.read",
    everybody: true,
    span: true,
    numbers: false,
    columns: [],
  },
  { what: "ledger", permission: "ledger.read", everybody: false, span: false, numbers: false, columns: [] },
  { what: "audit", permission: "audit.read", everybody: true, span: true, numbers: false, columns: [] },
];

/** What may be exported now; `tenant`: whether one tenant's things are looked at. */
export function exportable(tenant: boolean): Source[] {
  return SOURCES.filter((source) => may(source.permission) && (tenant || source.everybody));
}
