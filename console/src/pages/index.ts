/** All pages; each area lists its own. */
import type { RouteRecordRaw } from "vue-router";
import { CODES } from "./codes/routes";
import { DEVELOPERS } from "./developers/routes";
import { ENTRY } from "./entry/routes";
import { MESSAGES } from "./messages/routes";
import { MONEY } from "./money/routes";
import { PERSONS } from "./persons/routes";
import { PLATFORM } from "./platform/routes";
import { SENDING } from "./sending/routes";
import { UPSTREAMS } from "./upstreams/routes";
import { WATCHING } from "./watching/routes";
import { WORDING } from "./wording/routes";

export const PAGES: RouteRecordRaw[] = [
  ...ENTRY,
  ...WATCHING,
  ...SENDING,
  ...MESSAGES,
  ...WORDING,
  ...CODES,
  ...PERSONS,
  ...DEVELOPERS,
  ...UPSTREAMS,
  ...MONEY,
  ...PLATFORM,
];
