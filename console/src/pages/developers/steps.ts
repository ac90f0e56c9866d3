/** How far a tenant has come, asked of the API; what somebody may not see is unknown and no step of theirs. */
import { api, told } from "../../api/client";
import { may, tenantId } from "../../frame/session";

export const STEPS = ["qualification", "wording", "call", "watching"] as const;
export type Step = (typeof STEPS)[number];

export interface Part {
  name: string;
  done: boolean;
  to: string;
  note?: string; // why it is not
}

export interface Looked {
  state: "done" | "missing" | "waiting" | "unknown";
  to?: string;
  go?: string; // key of the words that lead there, where they are not the step's usual ones
  parts?: Part[];
}

/** Return the state of every step. */
export async function look(): Promise<Record<Step, Looked>> {
  if (tenantId.value === null)
    return { qualification: UNKNOWN, wording: UNKNOWN, call: UNKNOWN, watching: UNKNOWN };
  const [qualification, wording, call, watching] = await Promise.all([
    qualified(),
    may("wording.read") ? worded() : UNKNOWN,
    may("messages.read") ? called() : UNKNOWN,
    may("apps.read") ? watched() : UNKNOWN,
  ]);
  return { qualification, wording, call, watching };
}

const UNKNOWN: Looked = { state: "unknown" };

async function qualified(): Promise<Looked> {
  const tenant = await told(api.GET("/v1/tenant"));
  const to = "/qualification";
  if (tenant.qualified) return { state: "done", to };
  if (!may("qualification.read")) return { state: "unknown" };
  const { items } = await told(api.GET("/v1/qualifications", { params: { query: { limit: 1 } } }));
  const state = items[0]?.state ?? "none";
  const handedIn = !["none", "draft", "rejected", "lapsed"].includes(state);
  const note = ["draft", "reviewing", "rejected", "lapsed"].includes(state)
    ? `qualification_${state}`
    : undefined;
  return {
    state: handedIn ? "waiting" : "missing",
    to,
    parts: [
      { name: "hand_in", done: handedIn, to, ...(note && !handedIn ? { note } : {}) },
      { name: "approved", done: false, to, ...(note && handedIn ? { note } : {}) },
    ],
  };
}

async function worded(): Promise<Looked> {
  const [signatures, templates] = await Promise.all([
    told(api.GET("/v1/signatures", { params: { query: { limit: 100 } } })),
    told(api.GET("/v1/templates", { params: { query: { limit: 100 } } })),
  ]);
  const parts = [
    part("signature", "/signatures", signatures.items),
    part("template", "/templates", templates.items),
  ];
  return summed(parts, parts.find((one) => !one.done)?.to ?? "/templates");
}

function part(name: string, to: string, rows: { state: string }[]): Part {
  const done = rows.some((row) => row.state === "approved");
  const waits = rows.some((row) => ["waiting", "submitted", "reviewing", "filing"].includes(row.state));
  return {
    name,
    to,
    done,
    ...(done ? {} : { note: waits ? "in_review" : rows.length ? "none_approved" : "none_yet" }),
  };
}

async function called(): Promise<Looked> {
  const [keys, messages, paid] = await Promise.all([
    may("apps.read") ? told(api.GET("/v1/keys", { params: { query: { limit: 500 } } })) : null,
    told(api.GET("/v1/messages", { params: { query: { limit: 1 } } })),
    may("ledger.read") && may("prices.read") ? agreed() : null,
  ]);
  const sent = messages.items.length > 0;
  const key = keys?.items.some((one) => one.active) ?? sent;
  const live = keys?.items.some((one) => one.active && !one.sandbox) ?? false;
  const parts: Part[] = [
    { name: "key", done: key, to: "/apps", ...(key && !live && keys ? { note: "sandbox_only" } : {}) },
    ...(paid ? [paid] : []),
    { name: "first_message", done: sent, to: "/examples" },
  ];
  return summed(parts, key ? "/examples" : "/apps");
}

/** Without a price and money nothing is taken, not even for the sandbox; both are the platform's to give. */
async function agreed(): Promise<Part> {
  const [tenant, prices] = await Promise.all([told(api.GET("/v1/tenant")), told(api.GET("/v1/prices"))]);
  const priced = prices.items.length > 0;
  const funded = tenant.balance_micro > 0;
  const note = priced ? (funded ? null : "no_money") : "no_price";
  return { name: "money", done: note === null, to: "/ledger", ...(note ? { note } : {}) };
}

async function watched(): Promise<Looked> {
  const [hooks, told_] = await Promise.all([
    told(api.GET("/v1/webhooks", { params: { query: { limit: 100 } } })),
    told(api.GET("/v1/deliveries", { params: { query: { limit: 50 } } })),
  ]);
  const active = hooks.items.filter((one) => one.active);
  const taken = told_.items.some((one) => one.taken);
  const failing = !taken && told_.items.length > 0;
  const parts: Part[] = [
    { name: "webhook", done: active.length > 0, to: "/webhooks" },
    { name: "taken", done: taken, to: "/webhooks", ...(failing ? { note: "not_taken" } : {}) },
  ];
  if (!active[0]) return summed(parts, "/apps");
  return { ...summed(parts, `/apps/${active[0].app_id}?tab=webhook`), go: "developers.test" };
}

function summed(parts: Part[], to: string): Looked {
  return { state: parts.every((one) => one.done) ? "done" : "missing", parts, to };
}
