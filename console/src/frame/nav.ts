/** The map of the console: what stands in the menu and the command palette, for whom. */
import type { Component } from "vue";
import {
  Bell,
  ChatDotRound,
  ChatLineSquare,
  Checked,
  CircleCheck,
  Coin,
  Connection,
  DataAnalysis,
  Document,
  EditPen,
  Files,
  Filter,
  Flag,
  Guide,
  HomeFilled,
  Key,
  List,
  Lock,
  Message,
  Monitor,
  MuteNotification,
  OfficeBuilding,
  Notebook,
  Operation,
  Position,
  Postcard,
  Promotion,
  Setting,
  Share,
  Stamp,
  Tickets,
  TrendCharts,
  User,
  Wallet,
  Warning,
} from "@element-plus/icons-vue";
import { isPlatform, may, tenantId, type Permission } from "./session";

export interface Entry {
  path: string;
  label: string; // key of the words
  icon: Component;
  permission: Permission | null;
  /** tenant: only where one tenant's things are looked at; platform: only people of the platform. */
  whose: "any" | "tenant" | "platform";
}

export interface Group {
  label: string;
  entries: Entry[];
}

function entry(
  path: string,
  icon: Component,
  permission: Permission | null,
  whose: Entry["whose"] = "any",
): Entry {
  return { path, label: `nav.${path.slice(1).replaceAll("-", "_") || "overview"}`, icon, permission, whose };
}

const GROUPS: Group[] = [
  {
    label: "nav.group_watch",
    entries: [
      entry("/", HomeFilled, "statistics.read"),
      entry("/first-steps", Guide, null, "tenant"),
      entry("/messages", ChatLineSquare, "messages.read"),
      entry("/statistics", DataAnalysis, "statistics.read"),
      entry("/alarms", Bell, "alarms.read"),
    ],
  },
  {
    label: "nav.group_send",
    entries: [
      entry("/send", Promotion, "messages.send", "tenant"),
      entry("/lists", List, "messages.read", "tenant"),
      entry("/exports", Files, null),
    ],
  },
  {
    label: "nav.group_codes",
    entries: [
      entry("/verifications", CircleCheck, "messages.read"),
      entry("/funnel", Filter, "statistics.read"),
      entry("/pumping", Warning, "statistics.read"),
      entry("/verification-policies", Setting, "apps.read", "tenant"),
      entry("/site-keys", Monitor, "apps.read"),
      entry("/conversions", TrendCharts, "statistics.read", "platform"),
    ],
  },
  {
    label: "nav.group_wording",
    entries: [
      entry("/signatures", Stamp, "wording.read"),
      entry("/templates", EditPen, "wording.read"),
      entry("/words", Document, "words.read"),
      entry("/filings", Postcard, "filings.write", "platform"),
    ],
  },
  {
    label: "nav.group_persons",
    entries: [
      entry("/inbound", ChatDotRound, "messages.read"),
      entry("/opt-outs", MuteNotification, "consents.read"),
      entry("/blocks", Lock, "consents.read"),
      entry("/complaints", Flag, "consents.read"),
      entry("/consents", Checked, "consents.read", "tenant"),
      entry("/persons", User, "persons.erase", "tenant"),
    ],
  },
  {
    label: "nav.group_developers",
    entries: [
      entry("/apps", Key, "apps.read", "tenant"),
      entry("/webhooks", Connection, "apps.read"),
      entry("/signature-debugger", Operation, "apps.read", "tenant"),
      entry("/examples", Tickets, "apps.read", "tenant"),
    ],
  },
  {
    label: "nav.group_upstreams",
    entries: [
      entry("/channels", Share, "channels.read", "platform"),
      entry("/routes", Position, "routes.read", "platform"),
    ],
  },
  {
    label: "nav.group_money",
    entries: [
      entry("/prices", Coin, "prices.read"),
      entry("/ledger", Wallet, "ledger.read"),
      entry("/bills", Tickets, "ledger.read", "platform"),
    ],
  },
  {
    label: "nav.group_platform",
    entries: [
      entry("/reviews", Checked, "reviews.read", "platform"),
      entry("/tenants", OfficeBuilding, "tenants.read", "platform"),
      entry("/qualification", OfficeBuilding, "qualification.read", "tenant"),
      entry("/people", User, "users.read"),
      entry("/announcements", Message, "wording.read"),
      entry("/audit", Notebook, "audit.read"),
      entry("/policies", Setting, "tenants.read", "platform"),
      entry("/retention", Lock, "consents.read"),
      entry("/configuration", Setting, "configuration.read", "platform"),
    ],
  },
];

export function open(entry: Entry): boolean {
  if (entry.permission !== null && !may(entry.permission)) return false;
  if (entry.whose === "platform") return isPlatform.value;
  if (entry.whose === "tenant") return tenantId.value !== null;
  return true;
}

/** The groups somebody may see, without empty ones. */
export function groups(): Group[] {
  return GROUPS.map((group) => ({ ...group, entries: group.entries.filter(open) })).filter(
    (group) => group.entries.length,
  );
}
