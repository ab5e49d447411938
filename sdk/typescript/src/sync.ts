/** What was done offline, and what has changed meanwhile. */

import type { SyncAnswer, SyncChanges, SyncOperation, SyncResult } from "./generated.js";
import { Group } from "./group.js";
import type { CallOptions } from "./options.js";
import { portion } from "./portion.js";

export interface SyncOptions extends CallOptions {
  /** What was done. An operation keeps its `id` however often it is sent. */
  ops?: readonly SyncOperation[];
  /** What to be told of; by default as before, or all that the token may read. */
  types?: readonly string[];
}

export class SyncGroup extends Group {
  /**
   * Send operations, and walk through all that has changed since the cursor.
   *
   * The first pages have their results, in their order: a request takes a hundred. An operation without a result was not
   * sent, because an earlier one has to be sent again first.
   *
   * Store each page's `cursor` together with its changes. Whatever fails may be sent again, since an operation is done
   * once. Throws: ApiError; with the code `cursor_expired`, begin anew without a cursor.
   */
  async *pages(cursor: string | null, options: SyncOptions = {}): AsyncGenerator<SyncAnswer, void, undefined> {
    const { ops = [], types, ...rest } = options;
    let waiting = [...ops];
    for (;;) {
      const sent = portion(waiting);
      const body = { cursor, ops: sent, ...(types && { types }) };
      const answer = await this.one<SyncAnswer>("POST", "/v1/sync", body, rest);
      yield answer;
      waiting = answer.results.some(isToBeSentAgain) ? [] : waiting.slice(sent.length);
      if (!waiting.length && !answer.has_more) return;
      cursor = answer.cursor;
    }
  }

  /** What has changed since the cursor, as soon as something has; after `wait` seconds nothing. */
  wait(cursor: string, options: CallOptions & { wait?: number } = {}): Promise<SyncChanges> {
    const wait = options.wait ?? 20;
    const requestTimeout = options.requestTimeout ?? (wait + 10) * 1000;
    return this.one("GET", "/v1/sync", undefined, { ...options, wait, requestTimeout, query: { cursor } });
  }
}

/** Whether an operation was refused for a reason that passes, but for those that rest on another. */
function isToBeSentAgain({ status, problem }: SyncResult): boolean {
  const inFlight = status === 409 && (problem as { code?: string }).code === "idempotency_key_in_use";
  return inFlight || status === 429 || status >= 500;
}
