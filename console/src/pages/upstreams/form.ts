/** What a kind's Config says (JSON Schema 2020-12), as fields of a form in groups: the account first. */
import { i18n } from "../../frame/words";

export const HIDDEN = "***"; // a secret as it is stored; given back it stays

export type Setting = string | number | boolean | null | Setting[] | { [name: string]: Setting };
export type Settings = Record<string, Setting>;

/** The part of JSON Schema that msgspec writes for a Config. */
export interface Schema {
  $ref?: string;
  $defs?: Record<string, Schema>;
  type?: string;
  enum?: (string | number)[];
  anyOf?: Schema[];
  title?: string;
  description?: string;
  default?: Setting;
  format?: string;
  writeOnly?: boolean;
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  minItems?: number;
  items?: Schema;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  required?: string[];
  "x-connects"?: boolean;
}

export type Control = "text" | "secret" | "number" | "switch" | "choice" | "list" | "map" | "json";

export interface Field {
  name: string;
  schema: Schema; // resolved
  control: Control;
  required: boolean;
  connects: boolean;
  group: Group;
}

export const GROUPS = [
  "account",
  "sender",
  "text",
  "pace",
  "tls",
  "push",
  "answer",
  "codes",
  "other",
] as const;
export type Group = (typeof GROUPS)[number];

// Which settings belong together; what no row names goes by the beginning of its name, or to "other".
const MEMBERS: Record<Exclude<Group, "account" | "other">, RegExp> = {
  sender:
    /^(sender|destination|number_form|country_code|access|service|source|node|area|charge|fee|given|agent|msg_|priority|registered|report|pk_total|fixed)/,
  text: /^(charset|ucs2|sniff|split|wide|ascii|signature|gateway_signature|value_|text_|validity|templates|variables|parameters|by_template|body|headers|recipes|time_)/,
  pace: /(_s|_s_max)$|^(window|sessions|heartbeat|messages_per|batch|unsettled|trace|keep_open|share)/,
  tls: /^tls/,
  push: /^(push|listen|peer)/,
  answer: /^(answer|ok_|id_path|code_path|message_path)/,
  codes: /^(verdicts|causes|tlvs|id_dialect|receipts)/,
};
const ACCOUNT =
  /^(hosts|port|url|region|system_type|bind|version|interface_version|api_key|account|login|messaging_service_sid|area_code|corp_id|node|signing|tls)$/;

/** How many sessions a channel has is one of its terms; gateways share them out by this setting. */
const SET_ELSEWHERE = new Set(["sessions"]);

export function resolved(schema: Schema, root: Schema): Schema {
  if (!schema.$ref) return schema;
  const { $ref, ...own } = schema;
  const target = root.$defs?.[$ref.slice($ref.lastIndexOf("/") + 1)] ?? {};
  return { ...target, ...own };
}

/** Return the fields of a kind's form. */
export function fieldsOf(root: Schema): Field[] {
  const config = resolved(root, { ...root });
  const required = new Set(config.required ?? []);
  const properties = Object.entries(config.properties ?? {}).filter(([name]) => !SET_ELSEWHERE.has(name));
  return properties.map(([name, raw]) => {
    const schema = resolved(raw, root);
    const first =
      required.has(name) || schema.writeOnly === true || ACCOUNT.test(name) || isSecrets(schema, root);
    return {
      name,
      schema,
      control: controlOf(schema, root),
      required: required.has(name),
      connects: schema["x-connects"] === true,
      group: first ? "account" : groupOf(name),
    };
  });
}

function groupOf(name: string): Group {
  const found = Object.entries(MEMBERS).find(([, names]) => names.test(name));
  return (found?.[0] as Group | undefined) ?? "other";
}

export function controlOf(schema: Schema, root: Schema): Control {
  if (schema.writeOnly) return "secret";
  if (schema.enum) return "choice";
  switch (schema.type) {
    case "boolean":
      return "switch";
    case "integer":
    case "number":
      return "number";
    case "array":
      return itemsAreWords(schema, root) ? "list" : "json";
    case "object":
      return typeof schema.additionalProperties === "object" ? "map" : "json";
    case "string":
      return "text";
    default:
      return "json";
  }
}

function itemsAreWords(schema: Schema, root: Schema): boolean {
  return schema.items !== undefined && resolved(schema.items, root).type === "string";
}

function isSecrets(schema: Schema, root: Schema): boolean {
  const each = schema.additionalProperties;
  return typeof each === "object" && resolved(each, root).writeOnly === true;
}

/** The name of a setting in the reader's language; one without words of ours is called as the API calls it. */
export function titleOf(name: string, schema: Schema): string {
  const key = `settings.title.${name}`;
  return i18n.global.te(key) ? i18n.global.t(key) : (schema.title ?? name);
}

/** What a setting is for: in the kind's own way, in general, or in the API's words. */
export function helpOf(name: string, schema: Schema, kind: string): string {
  const key = [`settings.help_of.${kind}.${name}`, `settings.help.${name}`].find((one) =>
    i18n.global.te(one),
  );
  if (key) return i18n.global.t(key);
  const words = schema.description ?? "";
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function reduced(now: Setting | undefined, was: Setting | undefined): boolean {
  return Array.isArray(now) && Array.isArray(was) && now.every((one) => was.includes(one));
}

/** The settings that say where a channel connects and are others than the stored ones (as the server judges it). */
export function movedTo(fields: Field[], now: Settings, was: Settings): string[] {
  return fields
    .filter((field) => field.connects)
    .filter(({ name, schema }) => {
      const [is, had] = [now[name] ?? schema.default, was[name] ?? schema.default];
      return !same(is, had) && !reduced(is, had);
    })
    .map((field) => field.name);
}

/** Whether a stored secret stands anywhere in these settings. */
export function keepsSecrets(value: Setting): boolean {
  if (value === HIDDEN) return true;
  return value !== null && typeof value === "object" && Object.values(value).some(keepsSecrets);
}

/** What is still missing, by name. */
export function missing(fields: Field[], now: Settings): string[] {
  return fields
    .filter((field) => field.required)
    .filter(({ name }) => {
      const value = now[name];
      return value === undefined || value === "" || (Array.isArray(value) && !value.length);
    })
    .map((field) => field.name);
}
