/**
 * The only way to the server: `await told(api.GET("/v1/…", …))` gives the answer's `data` or throws a Refusal.
 *
 * Types come from the OpenAPI document. Surprise: where somebody of the platform acts for a tenant, `?tenant_id=` is
 * added here to every route that takes it, so no page does.
 */
import createClient, { type Middleware } from "openapi-fetch";
import { reactive } from "vue";
import type { components, paths } from "./schema";
import tenanted from "./tenanted.json";

export type Shapes = components["schemas"];

/** What the client says with every request; session.ts and preferences.ts set it. */
export const saying = reactive({ language: "zh", tenant: null as number | null });

const TENANTED = new Set(tenanted);
const WAIT_MS = 40_000; // the server gives up after 30 s

/** Why the server did not do what it was asked; `code` is one of docs/api/codes.md, or "Network" if nothing answered. */
export class Refusal extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status: number,
    readonly requestId: string,
    readonly detail: Record<string, unknown> = {},
    readonly retryAfterS = 0,
  ) {
    super(message);
  }

  /** The name of the parameter that was wrong, as the API names it. */
  get parameter(): string | null {
    return typeof this.detail["parameter"] === "string" ? this.detail["parameter"] : null;
  }

  get reason(): string | null {
    return typeof this.detail["reason"] === "string" ? this.detail["reason"] : null;
  }
}

/** Called when the server says that the sign-in has ended. */
let ended: () => void = () => {};
export function onEnded(callback: () => void): void {
  ended = callback;
}

const spoken: Middleware = {
  async onRequest({ request, schemaPath }) {
    request.headers.set("Accept-Language", saying.language);
    if (saying.tenant !== null && TENANTED.has(`${request.method} ${schemaPath}`)) {
      const url = new URL(request.url);
      if (!url.searchParams.has("tenant_id")) url.searchParams.set("tenant_id", String(saying.tenant));
      if (request.body === null) return new Request(url, request);
      // The body of a Request is a stream, and browsers send streams by HTTP/2 alone.
      const { method, headers, credentials, signal } = request;
      return new Request(url, { method, headers, credentials, signal, body: await request.arrayBuffer() });
    }
    return undefined;
  },
};

export const api = createClient<paths>({
  baseUrl: location.origin,
  headers: { "Hongyan-Console": "1" },
  credentials: "same-origin",
  querySerializer: { array: { style: "form", explode: false } }, // lists are written with commas
  fetch: (request) =>
    fetch(request, { signal: AbortSignal.any([request.signal, AbortSignal.timeout(WAIT_MS)]) }),
});
api.use(spoken);

interface Answered {
  data?: unknown;
  error?: unknown;
  response: Response;
}
type Told<A extends Answered> = NonNullable<A["data"]> extends { data: infer D } ? D : NonNullable<A["data"]>;

/** Return the `data` of an answer. Throws Refusal. */
export async function told<A extends Answered>(asking: Promise<A>): Promise<Told<A>> {
  let answer: A;
  try {
    answer = await asking;
  } catch (failure) {
    throw new Refusal("Network", String(failure), 0, "");
  }
  if (answer.response.ok) {
    const body = answer.data as { data?: unknown } | undefined;
    return (body && "data" in body ? body.data : body) as Told<A>;
  }
  throw refusalOf(answer.error, answer.response);
}

/** Send a file as the body of a route that takes one, telling how far it is. Throws Refusal. */
export function upload<T>(
  path: string,
  file: Blob,
  query: Record<string, string | number | undefined> = {},
  progress: (part: number) => void = () => {},
  type?: string,
): Promise<T> {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query))
    if (value !== undefined) url.searchParams.set(name, String(value));
  if (saying.tenant !== null && TENANTED.has(`POST ${path}`))
    url.searchParams.set("tenant_id", String(saying.tenant));
  return new Promise((resolve, reject) => {
    const asking = new XMLHttpRequest(); // fetch does not tell how much was sent
    asking.open("POST", url);
    asking.setRequestHeader("Hongyan-Console", "1");
    asking.setRequestHeader("Accept-Language", saying.language);
    asking.setRequestHeader("Content-Type", type ?? (file.type || "application/octet-stream"));
    asking.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    asking.onerror = () => reject(new Refusal("Network", "", 0, ""));
    asking.onload = () => {
      let body: { data?: T } = {};
      try {
        body = JSON.parse(asking.responseText) as { data?: T };
      } catch {
        // no JSON: refused below with what is known
      }
      if (asking.status >= 200 && asking.status < 300) resolve(body.data as T);
      else reject(refusalOf(body, new Response(null, { status: asking.status || 500 })));
    };
    asking.send(file);
  });
}

/** Return where a file can be fetched by a link, for a route that gives one. */
export function fileUrl(path: string, query: Record<string, string | number | undefined> = {}): string {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query))
    if (value !== undefined) url.searchParams.set(name, String(value));
  if (saying.tenant !== null) url.searchParams.set("tenant_id", String(saying.tenant));
  return url.pathname + url.search;
}

function refusalOf(said: unknown, response: Response): Refusal {
  const body = (said ?? {}) as Partial<Shapes["RefusalBody"]>;
  const refusal = new Refusal(
    body.code ?? "Network",
    body.message ?? response.statusText,
    response.status,
    body.request_id ?? "",
    (body.detail ?? {}) as Record<string, unknown>,
    body.retry_after ?? 0,
  );
  if (refusal.code === "Auth.SignInEnded") ended();
  return refusal;
}
