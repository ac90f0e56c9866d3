/** Who is signed in, what they may, and for which tenant somebody of the platform acts. */
import { computed, ref } from "vue";
import { api, saying, told, type Shapes } from "../api/client";

export type Permission = Shapes["Permission"];

const me = ref<Shapes["Me"] | null>(null);
let asked = false;

export const user = computed(() => me.value?.user ?? null);
export const isPlatform = computed(() => me.value !== null && me.value.user.tenant_id === null);
export const totpRecommended = computed(() => me.value?.totp_recommended ?? false);
export const recoveryCodesLeft = computed(() => me.value?.recovery_codes_left ?? 0);
/** The tenant whose things are looked at: one's own, or the one somebody of the platform chose; null: all. */
export const tenantId = computed(() => me.value?.user.tenant_id ?? saying.tenant);

export function may(permission: Permission): boolean {
  return me.value?.permissions.includes(permission) ?? false;
}

/** Learn who is signed in; asks the server only the first time. */
export async function known(): Promise<boolean> {
  if (!asked) await learn();
  return me.value !== null;
}

export async function learn(): Promise<void> {
  asked = true;
  try {
    me.value = await told(api.GET("/v1/me"));
  } catch {
    me.value = null; // not signed in; a server that does not answer says so at the sign-in
  }
}

export async function signOut(): Promise<void> {
  try {
    await told(api.POST("/v1/sign-out"));
  } finally {
    forget();
  }
}

export function forget(): void {
  me.value = null;
  saying.tenant = null;
}
