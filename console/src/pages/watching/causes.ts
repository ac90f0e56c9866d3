/** What a cause says about whose matter it is: the number's, the network's, the wording's, the rules', or time's. */
const GROUPS: Record<string, string> = {
  absent: "person",
  invalid_number: "number",
  suspended: "number",
  unreachable: "network",
  handset: "person",
  blacklisted: "list",
  content_blocked: "content",
  rate_limited: "rate",
  sign_unregistered: "filing",
  no_route: "network",
  network: "network",
  ported: "number",
  expired: "time",
  rejected: "content",
  unsupported: "network",
  unknown: "unexplained",
  no_report: "unexplained",
  not_sent: "time",
  opted_out: "list",
  blocked: "list",
  cancelled: "ours",
  no_channel: "ours",
};

export function causeGroup(cause: string): string {
  return GROUPS[cause] ?? "unexplained";
}

export const CAUSES = Object.keys(GROUPS);
