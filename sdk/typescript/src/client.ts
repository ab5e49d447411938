/** The client itself: who is calling, and one call with its retries. */

import { ApiError, apiError, NetworkError, NotFound, TimedOut, UnreadableAnswer } from "./errors.js";
import { Groups } from "./generated.js";
import { isFile } from "./group.js";
import type { Answer, Caller, Query, Request } from "./options.js";
import { retryDelay, sleep } from "./retry.js";

export interface DuesOptions {
  /** Where Dues is, such as `https://dues.example.com`. In Node by default DUES_URL. */
  url?: string;
  /** In Node by default DUES_TOKEN. */
  token?: string;
  /** Milliseconds for a whole call, its retries included. */
  timeout?: number;
  /** Milliseconds for one attempt. */
  requestTimeout?: number;
  /** Further attempts after one that failed. */
  retries?: number;
  /** Another `fetch`, for tests. */
  fetch?: typeof fetch;
}

/**
 * A client of one Dues.
 *
 *     const dues = new Dues({ url, token });
 *     for await (const payment of dues.payments.list(storeId, { query: { status: "failed" } })) …
 */
export class Dues extends Groups implements Caller {
  readonly url: string;
  /** The last answer: its status and headers. */
  last: Answer | undefined;
  readonly #token: string;
  readonly #options: DuesOptions;

  constructor(options: DuesOptions = {}) {
    // The groups call back later only, when all of this is there.
    const held: { caller?: Caller } = {};
    super({ call: (request) => held.caller!.call(request), open: (request) => held.caller!.open(request) });
    held.caller = this;
    this.url = (options.url ?? environment("DUES_URL") ?? "http://127.0.0.1:8000").replace(/\/+$/, "");
    this.#token = options.token ?? environment("DUES_TOKEN") ?? "";
    this.#options = options;
  }

  /** The same with other options, or as somebody else. */
  withOptions(options: DuesOptions): Dues {
    return new Dues({ ...this.#options, url: this.url, token: this.#token, ...options });
  }

  /** The same client as the user with this e-mail and password. */
  async logIn(email: string, password: string): Promise<Dues> {
    const issued = await this.withOptions({ token: "" }).tokens.logIn({ email, password });
    return this.withOptions({ token: issued.token });
  }

  /** One call of any path, tried again where that is safe. Throws: ApiError, NetworkError. */
  async call(request: Request): Promise<Answer> {
    const giveUp = Date.now() + (this.#options.timeout ?? 60_000);
    let lost = false;
    for (let attempt = 1; ; attempt++) {
      let failure: ApiError | NetworkError;
      try {
        const response = await this.#attempt(request, giveUp - Date.now());
        return (this.last = await readAnswer(response));
      } catch (error) {
        if (error instanceof NotFound && request.method === "DELETE" && lost) {
          // The answer that was lost said so.
          return { status: 204, headers: error.headers, data: undefined };
        }
        if (!(error instanceof ApiError || error instanceof NetworkError)) throw error;
        failure = error;
        lost ||= error instanceof NetworkError;
      }
      const delay = retryDelay(attempt, failure, request);
      const retries = this.#options.retries ?? 4;
      if (delay === undefined || attempt > retries || Date.now() + delay > giveUp) throw failure;
      await sleep(delay, request.signal);
    }
  }

  /** An answer that is read as it comes in, once. Throws: ApiError, NetworkError. */
  async open(request: Request): Promise<Response> {
    const response = await this.#attempt(request, Infinity);
    if (response.status >= 300) await readAnswer(response);
    return response;
  }

  async #attempt(request: Request, left: number): Promise<Response> {
    const headers: Record<string, string> = { Accept: "application/json", ...request.headers };
    if (this.#token) headers["Authorization"] = `Bearer ${this.#token}`;
    requireSendable(headers);
    const limit = Math.min(request.requestTimeout ?? this.#options.requestTimeout ?? 30_000, Math.max(left, 1));
    const streams = left === Infinity;
    const timer = new AbortController();
    const timing = setTimeout(() => timer.abort(), limit);
    const signals = request.signal ? [timer.signal, request.signal] : [timer.signal];
    const init: RequestInit = { method: request.method, headers, signal: AbortSignal.any(signals), cache: "no-store" };
    if (isFile(request.body)) {
      init.body = request.body as BodyInit;
    } else if (request.body !== undefined) {
      init.body = JSON.stringify(request.body);
      headers["Content-Type"] = "application/json";
    }
    try {
      const send = this.#options.fetch ?? fetch;
      const response = await send(this.url + request.path + search(request.query), init);
      if (streams) return response;
      // The body belongs to the attempt, and to its time.
      const body = response.status === 204 || response.status === 304 ? null : await response.arrayBuffer();
      return new Response(body, { status: response.status, headers: response.headers });
    } catch (error) {
      if (request.signal?.aborted) throw request.signal.reason;
      if (timer.signal.aborted) throw new TimedOut("no answer came in time", { cause: error });
      throw new NetworkError(describe(error), { cause: error });
    } finally {
      clearTimeout(timing);
    }
  }
}

/** `fetch` would refuse such headers in words that hold their values, and those may be secret. Throws: TypeError. */
function requireSendable(headers: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(headers)) {
    if (/[\0\r\n]|[^\0-\xff]/.test(value.trim())) throw new TypeError(`what ${name} is to be holds what no header can`);
  }
}

function describe(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message : "the server was not reached";
}

async function readAnswer(response: Response): Promise<Answer> {
  const content = await response.text();
  let data: unknown;
  try {
    data = content ? JSON.parse(content) : undefined;
  } catch {
    // Not from Dues: a proxy's error page, say.
    if (response.status < 400) throw new UnreadableAnswer(response.status, {}, response.headers);
  }
  if (response.status >= 300 && response.status !== 304) {
    throw apiError(response.status, isObject(data) ? data : {}, response.headers);
  }
  return { status: response.status, headers: response.headers, data };
}

function isObject(value: unknown): value is { readonly [name: string]: unknown } {
  return typeof value === "object" && value !== null;
}

function search(query: Query | undefined): string {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value === undefined || value === null) continue;
    const text = value instanceof Date ? value.toISOString() : Array.isArray(value) ? value.join(",") : String(value);
    found.append(name, text);
  }
  const text = found.toString();
  return text && `?${text}`;
}

function environment(name: string): string | undefined {
  return typeof process === "undefined" ? undefined : process.env?.[name];
}
