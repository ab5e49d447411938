/** Whether and when a call is tried again. */

import { ApiError, type DuesError } from "./errors.js";
import type { Request } from "./options.js";

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 8_000;
// Whatever the request was: it was not taken on.
const BUSY = new Set([429, 502, 503, 504]);

/**
 * Milliseconds until the next attempt, or undefined where another must not be made. A request whose answer was lost is
 * sent again only where that has no second effect: reads and PUT; what carries an Idempotency-Key; changes and deletions
 * that are not bound to a version, which the first may have moved on.
 */
export function retryDelay(attempt: number, error: DuesError, request: Request): number | undefined {
  const headers = request.headers ?? {};
  if (error instanceof ApiError) {
    if (!BUSY.has(error.status) && error.code !== "idempotency_key_in_use") return undefined;
  } else if (request.method === "POST" ? !headers["Idempotency-Key"] : headers["If-Match"]) {
    return undefined;
  }
  const delay = Math.min(FIRST_DELAY_MS * 2 ** (attempt - 1), LONGEST_DELAY_MS) * (0.5 + Math.random() / 2);
  const asked = error instanceof ApiError ? (error.retryAfter ?? 0) * 1000 : 0;
  return Math.max(delay, asked);
}

export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
