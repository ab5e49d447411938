/** What the groups of operations are built on: how a call's answer becomes what the caller gets. */

import { Download } from "./download.js";
import { ApiError, NetworkError, TimedOut } from "./errors.js";
import type { Job } from "./generated.js";
import type { Answer, Caller, CallOptions, KeyedOptions, ListOptions, Query, SlowOptions, VersionOptions } from "./options.js";
import { Paged } from "./paging.js";
import { retryDelay, sleep } from "./retry.js";
import { Started } from "./started.js";

// The server says that it is there every 15 seconds.
const SILENCE_MS = 45_000;
const MOST_FAILURES = 5;

type AnyOptions = CallOptions & KeyedOptions & SlowOptions & VersionOptions & { query?: Query; contentType?: string };

/** An id as a part of a path. Throws for an empty one, which would name the list instead. */
export function seg(id: string): string {
  // These would name something else: the list, or what is above it.
  if (!id || id === "." || id === "..") throw new TypeError(`an id is ${id || "empty"}`);
  return encodeURIComponent(id);
}

/** Whether a body is sent as it is, and not as JSON. */
export function isFile(body: unknown): body is Blob | Uint8Array | string {
  return typeof body === "string" || body instanceof Uint8Array || body instanceof Blob;
}

export class Group {
  constructor(protected readonly caller: Caller) {}

  protected send(method: string, path: string, body: unknown, options: AnyOptions): Promise<Answer> {
    const headers: Record<string, string> = {};
    // Made once for the call, and kept over its attempts.
    if (method === "POST") headers["Idempotency-Key"] = options.idempotencyKey ?? crypto.randomUUID();
    if (options.ifVersion !== undefined) headers["If-Match"] = `"${options.ifVersion}"`;
    if (options.wait !== undefined) headers["Prefer"] = `wait=${options.wait}`;
    if (isFile(body)) headers["Content-Type"] = options.contentType ?? "text/csv";
    const { signal, requestTimeout, query } = options;
    return this.caller.call({ method, path, query, body, headers, signal, requestTimeout });
  }

  protected async one<T>(method: string, path: string, body: unknown, options: AnyOptions): Promise<T> {
    return (await this.send(method, path, body, options)).data as T;
  }

  protected async none(method: string, path: string, body: unknown, options: AnyOptions): Promise<void> {
    await this.send(method, path, body, options);
  }

  protected async slow<T extends object>(
    method: string,
    path: string,
    body: unknown,
    options: AnyOptions,
  ): Promise<Started<T>> {
    return new Started<T>(this.caller, await this.send(method, path, body, options));
  }

  protected paged<T>(path: string, options: ListOptions & { query?: Query }): Paged<T> {
    return new Paged<T>(this.caller, path, options);
  }

  protected file(path: string, options: CallOptions): Download {
    return new Download(this.caller, path, options);
  }

  /** The states of a job, until it is done. A stream that breaks is taken up where it was. */
  protected async *statuses(path: string, options: CallOptions): AsyncGenerator<Job, void, undefined> {
    let lastId = "";
    let failures = 0;
    for (;;) {
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (lastId) headers["Last-Event-ID"] = lastId;
      const request = { method: "GET", path, headers, signal: options.signal };
      try {
        const response = await this.caller.open({ ...request, requestTimeout: options.requestTimeout ?? SILENCE_MS });
        if (response.status === 204 || !response.body) return;
        for await (const line of lines(response.body)) {
          if (line.startsWith("id:")) lastId = line.slice(3).trim();
          if (!line.startsWith("data:")) continue;
          failures = 0;
          const job = JSON.parse(line.slice(5)) as Job;
          yield job;
          if (job.done) return;
        }
      } catch (error) {
        const broken = error instanceof ApiError || error instanceof NetworkError;
        const delay = broken ? retryDelay(++failures, error, request) : undefined;
        if (options.signal?.aborted || delay === undefined || failures > MOST_FAILURES) throw error;
        await sleep(delay, options.signal);
      }
    }
  }
}

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const reader = stream.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await soon(reader.read());
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop() ?? "";
      yield* parts;
    }
  } finally {
    await reader.cancel();
  }
}

/** What is read, or TimedOut where nothing comes any more; NetworkError where the connection broke. */
async function soon<T>(reading: Promise<T>): Promise<T> {
  const enough = new AbortController();
  const silence = sleep(SILENCE_MS, enough.signal).then(() => {
    throw new TimedOut("nothing came any more");
  });
  try {
    return await Promise.race([reading, silence]);
  } catch (error) {
    throw error instanceof NetworkError ? error : new NetworkError("the connection broke", { cause: error });
  } finally {
    silence.catch(() => undefined);
    enough.abort();
  }
}
