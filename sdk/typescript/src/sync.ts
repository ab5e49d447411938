/** What was done offline, and what has changed meanwhile. */

import type { SyncAnswer, SyncChanges, SyncOperation } from "./generated.js";
import { Group } from "./group.js";
import type { CallOptions } from "./options.js";

export interface SyncOptions extends CallOptions {
  /** What was done. An operation keeps its `id` however often it is sent. */
  ops?: readonly SyncOperation[];
  /** What to be told of; by default as before, or all that the token may read. */
  types?: readonly string[];
}

export class SyncGroup extends Group {
  /**
   * Send operations, and walk through all that has changed since the cursor. The first page has their results.
   *
   * Store each page's `cursor` together with its changes. Whatever fails may be sent again, since an operation is done
   * once. Throws: ApiError; with the code `cursor_expired`, begin anew without a cursor.
   */
  async *pages(cursor: string | null, options: SyncOptions = {}): AsyncGenerator<SyncAnswer, void, undefined> {
    const { ops = [], types, ...rest } = options;
    let body = { cursor, ops, ...(types && { types }) };
    for (;;) {
      const answer = await this.one<SyncAnswer>("POST", "/v1/sync", body, rest);
      yield answer;
      if (!answer.has_more) return;
      body = { ...body, ops: [], cursor: answer.cursor };
    }
  }

  /** What has changed since the cursor, as soon as something has; after `wait` seconds nothing. */
  wait(cursor: string, options: CallOptions & { wait?: number } = {}): Promise<SyncChanges> {
    const wait = options.wait ?? 20;
    const requestTimeout = options.requestTimeout ?? (wait + 10) * 1000;
    return this.one("GET", "/v1/sync", undefined, { ...options, wait, requestTimeout, query: { cursor } });
  }
}
