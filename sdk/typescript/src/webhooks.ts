/** Webhooks as they arrive: verified as Standard Webhooks has it. */

import { InvalidSignature } from "./errors.js";
import type { EventData } from "./generated.js";

/** What a webhook brings: `type` tells what `data` is. */
export type WebhookEvent = {
  [Type in keyof EventData]: {
    readonly id: string;
    readonly type: Type;
    readonly timestamp: string;
    readonly store_id: string;
    readonly seq: number;
    readonly data: EventData[Type];
  };
}[keyof EventData];

type HeadersLike = Headers | { readonly [name: string]: string | string[] | undefined };

/**
 * The event that a webhook brings. `body` is what came, unchanged; `secret` the endpoint's, or several while one is being
 * replaced. Throws: InvalidSignature for what was not signed with (one of) them, or more than `tolerance` seconds ago.
 */
export async function verify(
  body: string | Uint8Array,
  headers: HeadersLike,
  secret: string | readonly string[],
  { tolerance = 300 }: { tolerance?: number } = {},
): Promise<WebhookEvent> {
  const text = typeof body === "string" ? body : new TextDecoder().decode(body);
  const id = header(headers, "webhook-id");
  const timestamp = header(headers, "webhook-timestamp");
  const signatures = header(headers, "webhook-signature").split(" ");
  if (!/^\d{1,15}$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > tolerance) {
    throw new InvalidSignature("it was signed too long ago, or its time is none");
  }
  const signed = new TextEncoder().encode(`${id}.${timestamp}.${text}`);
  for (const one of typeof secret === "string" ? [secret] : secret) {
    const key = await crypto.subtle.importKey("raw", secretKey(one), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
    for (const signature of signatures) {
      if (!signature.startsWith("v1,")) continue;
      const given = decode(signature.slice(3));
      if (given && (await crypto.subtle.verify("HMAC", key, given, signed))) {
        return { ...(JSON.parse(text) as WebhookEvent), id };
      }
    }
  }
  throw new InvalidSignature("no signature is of this secret");
}

function header(headers: HeadersLike, name: string): string {
  const found = headers instanceof Headers ? headers.get(name) : Object.entries(headers).find(([n]) => n.toLowerCase() === name)?.[1];
  if (typeof found !== "string") throw new InvalidSignature(`there is no header ${name}`);
  return found;
}

function secretKey(secret: string): Uint8Array<ArrayBuffer> {
  const key = decode(secret.replace(/^whsec_/, ""));
  if (!key) throw new InvalidSignature("the secret is none: it begins with whsec_");
  return key;
}

function decode(base64: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
