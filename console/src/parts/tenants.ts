/** Tenants by name, for people of the platform: finding one, and what a number in a row is called. */
import { reactive } from "vue";
import { api, told } from "../api/client";
import { may, tenantId } from "../frame/session";

export interface Found {
  id: number;
  name: string;
  currency: string;
}
const MOST = 500; // what the route gives at once
const known = reactive(new Map<number, Found>());
const asked = new Set<number>();
let wanted: number[] = []; // asked for since the last answer was begun

/** Find tenants by a part of their name; without one, the first of all. Throws Refusal. */
export async function findTenants(named: string, limit = 50): Promise<Found[]> {
  const query = { limit, named: named || undefined };
  const page = await told(api.GET("/v1/tenants", { params: { query } }));
  for (const one of page.items) known.set(one.id, one);
  return page.items;
}

/** Return a tenant, or null until it is known and where it may not be. Reading it again follows the answer. */
export function tenantOf(id: number): Found | null {
  if (!asked.has(id) && !known.has(id) && may("tenants.read")) {
    asked.add(id);
    if (wanted.push(id) === 1) setTimeout(() => void learn().catch(() => {})); // what fails stays a number
  }
  return known.get(id) ?? null;
}

/** Return a tenant's name, or #7. */
export function tenantName(id: number): string {
  return tenantOf(id)?.name ?? `#${id}`;
}

/** Return the currency of the tenant that is looked at; CNY until it is known, and where many tenants are. */
export function currencyHere(): string {
  const id = tenantId.value;
  if (id === null) return "CNY";
  if (!asked.has(id) && !known.has(id) && may("ledger.read")) {
    asked.add(id);
    void told(api.GET("/v1/tenant")).then(
      (one) => known.set(id, one),
      () => {},
    );
  }
  return known.get(id)?.currency ?? "CNY";
}

/** Most installs have so few tenants that one answer names them all. */
async function learn(): Promise<void> {
  const ids = wanted;
  wanted = [];
  if (ids.length > 1) await findTenants("", MOST);
  for (const id of ids.filter((one) => !known.has(one)))
    known.set(id, await told(api.GET("/v1/tenants/{id}", { params: { path: { id } } })));
}
