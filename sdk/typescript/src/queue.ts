/**
 * Changes that are made while there may be no connection: they are kept, and sent in their order when there is one.
 *
 * Each operation is sent as part of a batch (`POST /v1/batch`) with an idempotency key of its own, which stays the same
 * however often it is sent: an answer that was lost is given again, and nothing happens twice.
 */

import type { Dues } from "./client.js";
import { ApiError, NetworkError } from "./errors.js";
import { MOVES_MONEY } from "./generated.js";
import { portion } from "./portion.js";

const HOUR_MS = 3_600_000;
// What a batch is answered where one of its operations cannot be read, or is too large.
const REFUSES_ALL = new Set([400, 413, 422]);
// The server remembers keys for a day. What may have been done before that cannot be sent again.
const REMEMBERED_MS = 23 * HOUR_MS;
// Nobody is charged the day after for a tap in a tunnel.
const MONEY_KEPT_MS = 24 * HOUR_MS;
const MONEY = new RegExp(`^(${MOVES_MONEY.join("|").replaceAll("*", "[^/]+")})$`);
const REFERENCE = /^\$([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_.]+)$/;

export interface NewOperation {
  method: "POST" | "PUT" | "PATCH" | "DELETE";
  /** Such as `/v1/me/addresses`. The segment `$<id>.id` stands for the `id` that the operation `<id>` is answered. */
  path: string;
  /** Where `{ "$ref": "<id>#/id" }` stands for the `id` that the operation `<id>` is answered. */
  body?: unknown;
  /** Refuses the change where the thing is at another version by then. */
  ifVersion?: number;
  /** Milliseconds after which it is not sent any more. By default a day for what may move money, and else no limit. */
  maxAge?: number;
}

export interface Operation extends NewOperation {
  readonly id: string;
  /** When it was added, in milliseconds since 1970. */
  readonly at: number;
  /** When it was sent first, and may have been done. */
  sentAt?: number;
}

/**
 * What became of an operation. `status` is that of its answer, and `body` the answer or the problem; 0 for one that was
 * not sent: its `code` is `stale_operation` (too old to be sent), `uncertain` (sent so long ago that the server does not
 * remember whether it was done) or `failed_dependency` (it uses the answer of one that has failed).
 */
export interface Outcome {
  readonly operation: Operation;
  readonly status: number;
  readonly code: string;
  readonly body: unknown;
}

/** Where operations are kept. Each call has to be done, and on disk, when its promise is. */
export interface QueueStorage {
  /** The queue's own key: the same each time, and no other queue's. */
  key(): Promise<string>;
  /** In the order in which they were first put. */
  all(): Promise<Operation[]>;
  put(operation: Operation): Promise<void>;
  delete(id: string): Promise<void>;
}

export interface QueueOptions {
  /** Is told what became of each operation, before it is forgotten; again where the program ended meanwhile. */
  onOutcome?: (outcome: Outcome) => void | Promise<void>;
  /** The time, for tests. */
  clock?: () => number;
}

/**
 *     const queue = new OfflineQueue(dues, indexedDbStorage());
 *     const { id } = await queue.add({ method: "POST", path: "/v1/posts", body: { body: "On the wall", privacy: "public" } });
 *     addEventListener("online", () => void queue.flush());
 */
export class OfflineQueue {
  #flushing: Promise<Outcome[]> | undefined;

  constructor(
    private readonly dues: Dues,
    private readonly storage: QueueStorage,
    private readonly options: QueueOptions = {},
  ) {}

  /** Keep an operation; `flush()` sends it. */
  async add(operation: NewOperation): Promise<Operation> {
    const kept: Operation = { ...operation, id: crypto.randomUUID(), at: this.#now() };
    await this.storage.put(kept);
    return kept;
  }

  /** What has not come to an end yet. */
  pending(): Promise<Operation[]> {
    return this.storage.all();
  }

  /**
   * Send what is kept, in its order. Operations that could not be done for a reason that passes (no connection, a limit,
   * a busy server) stay for the next time. Returns: what has come to an end. Throws: NetworkError or ApiError where the
   * server could not be asked.
   */
  flush(): Promise<Outcome[]> {
    this.#flushing ??= exclusively(() => this.#flush()).finally(() => (this.#flushing = undefined));
    return this.#flushing;
  }

  async #flush(): Promise<Outcome[]> {
    const key = await this.storage.key();
    const run: Run = { outcomes: [], failed: new Set() };
    // Those that stay for the next time are in front of the rest.
    let staying = 0;
    let most: number | undefined;
    for (;;) {
      const waiting: Operation[] = [];
      for (const operation of (await this.storage.all()).slice(staying)) {
        const code = run.failed.has(operation.id) ? undefined : this.#refusal(operation);
        if (code) await this.#end(run, operation, 0, code, undefined);
        else if (code === "") waiting.push(operation);
      }
      const sent = portion(waiting, most);
      if (!sent.length) return run.outcomes;
      try {
        staying += await this.#send(run, key, sent);
        most = undefined;
      } catch (error) {
        if (!(error instanceof ApiError && REFUSES_ALL.has(error.status))) throw error;
        // One of them is the reason: the others are done without it.
        for (const operation of sent) await this.#forgetSending(operation.id);
        if (sent.length > 1) most = sent.length >> 1;
        else await this.#end(run, sent[0]!, error.status, error.code, error.members);
      }
    }
  }

  /** Returns: how many of those that were sent stay. */
  async #send(run: Run, key: string, sent: Operation[]): Promise<number> {
    for (const operation of sent) {
      if (operation.sentAt !== undefined) continue;
      operation.sentAt = this.#now();
      await this.storage.put(operation);
    }
    const operations = sent.map(({ id, method, path, body, ifVersion }) => ({
      id,
      method,
      path,
      ...(body === undefined ? {} : { body }),
      ...(ifVersion === undefined ? {} : { if_version: ifVersion }),
    }));
    const { results } = await this.dues.batch.run({ operations }, { idempotencyKey: key });
    let staying = 0;
    for (const [place, result] of results.entries()) {
      const operation = sent[place]!;
      const code = result.status >= 400 ? ((result.body as { code?: string }).code ?? "") : "";
      if (run.failed.has(operation.id)) continue;
      // Whose token has run out signs in again, and goes on.
      if (passes(result.status, code) || result.status === 401) {
        staying++;
        if (code !== "idempotency_key_in_use") await this.#forgetSending(operation.id);
      } else await this.#end(run, operation, result.status, code, result.body);
    }
    return staying;
  }

  /** It was not done, and so begins anew. */
  async #forgetSending(id: string): Promise<void> {
    for (const { sentAt: _, ...kept } of await this.storage.all()) {
      if (kept.id === id) await this.storage.put(kept);
    }
  }

  /** Why an operation is not to be sent; "" for one that is. */
  #refusal(operation: Operation): string {
    const movesMoney = MONEY.test(`${operation.method} ${operation.path.split("?")[0]}`);
    if (operation.sentAt === undefined) {
      const maxAge = operation.maxAge ?? (movesMoney ? MONEY_KEPT_MS : Infinity);
      return this.#now() - operation.at > maxAge ? "stale_operation" : "";
    }
    // All but a POST has the same effect however often it is done.
    return operation.method === "POST" && this.#now() - operation.sentAt > REMEMBERED_MS ? "uncertain" : "";
  }

  /** Tell what became of an operation, and forget it. What uses its answer gets that, or ends with it. */
  async #end(run: Run, operation: Operation, status: number, code: string, body: unknown): Promise<void> {
    const outcome = { operation, status, code, body };
    const done = status >= 200 && status < 300;
    if (!done) run.failed.add(operation.id);
    run.outcomes.push(outcome);
    await this.options.onOutcome?.(outcome);
    for (const other of await this.storage.all()) {
      if (!references(other).has(operation.id) || run.failed.has(other.id)) continue;
      if (done) await this.storage.put(resolved(other, operation.id, body));
      else await this.#end(run, other, 0, "failed_dependency", undefined);
    }
    await this.storage.delete(operation.id);
  }

  #now(): number {
    return (this.options.clock ?? Date.now)();
  }
}

/** What has come to an end in one flush, and the ids of those that failed. */
interface Run {
  outcomes: Outcome[];
  failed: Set<string>;
}

/** Whether a refusal is of the moment. */
function passes(status: number, code: string): boolean {
  return status === 429 || status >= 500 || status === 424 || code === "idempotency_key_in_use";
}

/** The ids of the operations whose answers it uses. */
function references(operation: Operation): Set<string> {
  const found = new Set<string>();
  for (const segment of operation.path.split(/[/?]/)) {
    const match = REFERENCE.exec(segment);
    if (match) found.add(match[1]!);
  }
  walk(operation.body, (id) => void found.add(id));
  return found;
}

/** The same operation with the answer of another in place of the references to it. */
function resolved(operation: Operation, id: string, answer: unknown): Operation {
  const path = operation.path.replace(/[^/?]+/g, (segment) => {
    const match = REFERENCE.exec(segment);
    return match?.[1] === id ? String(lookUp(answer, match[2]!.split("."))) : segment;
  });
  const body = walk(operation.body, (other, pointer, whole) =>
    other === id ? lookUp(answer, pointer.split("/").map(unescape)) : whole,
  );
  return { ...operation, path, ...(body === undefined ? {} : { body }) };
}

function walk(value: unknown, replace: (id: string, pointer: string, whole: unknown) => unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => walk(item, replace));
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  const entries = Object.entries(value);
  if (entries.length === 1 && entries[0]![0] === "$ref" && typeof entries[0]![1] === "string") {
    const [id, pointer] = entries[0]![1].split("#/", 2);
    return replace(id ?? "", pointer ?? "", value);
  }
  return Object.fromEntries(entries.map(([name, item]) => [name, walk(item, replace)]));
}

function lookUp(value: unknown, steps: string[]): unknown {
  return steps.reduce((found, step) => (found as { [name: string]: unknown } | undefined)?.[step], value);
}

function unescape(step: string): string {
  return step.replace(/~1/g, "/").replace(/~0/g, "~");
}

/** One at a time, over all pages of an origin where that can be had. */
function exclusively<T>(work: () => Promise<T>): Promise<T> {
  if (typeof navigator === "undefined" || !navigator.locks) return work();
  return navigator.locks.request("dues-queue", work) as Promise<T>;
}

/** Whether an error of `flush()` passes by itself. */
export function isOffline(error: unknown): boolean {
  return error instanceof NetworkError || (error instanceof ApiError && passes(error.status, error.code));
}

/** Kept for as long as the program runs: for tests, and where nothing else is there. */
export function memoryStorage(): QueueStorage {
  const key = crypto.randomUUID();
  const kept = new Map<string, Operation>();
  return {
    key: async () => key,
    all: async () => [...kept.values()].map((operation) => ({ ...operation })),
    put: async (operation) => void kept.set(operation.id, { ...operation }),
    delete: async (id) => void kept.delete(id),
  };
}

/** In a browser's IndexedDB. Each user of a page needs a `name` of its own. */
export function indexedDbStorage(name = "dues-queue"): QueueStorage {
  const opening = new Promise<IDBDatabase>((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("operations", { keyPath: "place", autoIncrement: true }).createIndex("id", "id", {
        unique: true,
      });
      request.result.createObjectStore("meta").put(crypto.randomUUID(), "key");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

  async function run<T>(store: string, mode: IDBTransactionMode, work: (objects: IDBObjectStore) => IDBRequest<T>) {
    const transaction = (await opening).transaction(store, mode, { durability: "strict" });
    const request = work(transaction.objectStore(store));
    return new Promise<T>((resolve, reject) => {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error);
    });
  }
  const placeOf = (id: string) => run("operations", "readonly", (objects) => objects.index("id").getKey(id));

  return {
    key: () => run("meta", "readonly", (objects) => objects.get("key") as IDBRequest<string>),
    all: async () => {
      const rows = await run("operations", "readonly", (objects) => objects.getAll() as IDBRequest<Row[]>);
      return rows.map(({ place: _, ...operation }) => operation);
    },
    put: async (operation) => {
      const place = await placeOf(operation.id);
      await run("operations", "readwrite", (objects) => objects.put(place === undefined ? operation : { ...operation, place }));
    },
    delete: async (id) => {
      const place = await placeOf(id);
      if (place !== undefined) await run("operations", "readwrite", (objects) => objects.delete(place));
    },
  };
}

type Row = Operation & { place: number };
