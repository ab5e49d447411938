/** How a call is made, and what the groups of operations need of the client. */

/** What an answer said. `data` is its JSON, undefined where there was none. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly data: unknown;
}

export interface CallOptions {
  /** Ends the call, and its retries. */
  signal?: AbortSignal;
  /** Milliseconds for one attempt. */
  requestTimeout?: number;
}

export interface KeyedOptions extends CallOptions {
  /** By default one is made for the call. One of your own has the call made once over restarts of your program, too. */
  idempotencyKey?: string;
}

export interface SlowOptions extends KeyedOptions {
  /** Seconds that the server may hold its answer for the work to be done. */
  wait?: number;
}

export interface VersionOptions extends CallOptions {
  /** Refuses the change where the thing is at another version by now. */
  ifVersion?: number;
}

export interface ListOptions extends CallOptions {
  /** Rows of one request; all are walked through whatever it is. */
  pageSize?: number;
}

export type Query = { readonly [name: string]: unknown };

export interface Request {
  method: string;
  path: string;
  query?: Query | undefined;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
  requestTimeout?: number | undefined;
}

/** What the groups need of the client. */
export interface Caller {
  call(request: Request): Promise<Answer>;
  open(request: Request): Promise<Response>;
}
