// The offline queue, against a server of ours that loses questions and answers, is busy, and forgets nothing it has done.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Dues, isOffline, memoryStorage, OfflineQueue } from "../dist/index.js";
import { fileStorage } from "../dist/file.js";

const HOUR = 3_600_000;

/** Answers batches as Dues does. `faults` are taken one for each request: "lost" (not done), "cut" (done, answer lost). */
function server(faults = []) {
  const rows = new Map();
  const done = new Map();
  const seen = [];
  const busy = new Set();
  const refused = new Set();
  const signedOut = { path: "" };

  function run(operation, key, results) {
    if (busy.has(operation.path)) return { status: 429, body: { code: "rate_limited" } };
    if (operation.path === signedOut.path) return { status: 401, body: { code: "unauthenticated" } };
    if (done.has(key)) return done.get(key);
    if (refused.has(operation.path)) return { status: 422, body: { code: "validation" } };
    let missing = false;
    const resolve = (id, steps) => {
      const found = results.find((result) => result.id === id);
      if (!found || found.status >= 300) missing = true;
      else return steps.reduce((value, step) => value[step], found.body);
    };
    const path = operation.path.replace(/\$([\w-]+)\.(\w+)/g, (_, id, name) => resolve(id, [name]));
    const body = JSON.parse(JSON.stringify(operation.body ?? null), (_, value) =>
      value?.$ref ? resolve(...value.$ref.split("#/").map((part, i) => (i ? part.split("/") : part))) : value,
    );
    if (missing) return { status: 424, body: { code: "failed_dependency" } };
    const id = `row${rows.size}`;
    rows.set(id, { path, body });
    const answer = { status: 201, body: { id, path, body } };
    done.set(key, answer);
    return answer;
  }

  const fetch = async (url, init) => {
    const fault = faults.shift();
    if (fault === "lost") throw new TypeError("fetch failed");
    const { operations } = JSON.parse(init.body);
    // As a batch is refused whole, for one of its operations.
    const poison = operations.some((operation) => operation.path.startsWith("/poison"));
    if (poison || init.body.length > 1_048_576) {
      return new Response(JSON.stringify({ code: poison ? "validation" : "payload_too_large" }), { status: poison ? 422 : 413 });
    }
    seen.push(operations.length);
    const results = [];
    for (const operation of operations) {
      const key = `${init.headers["Idempotency-Key"]}/${operation.id}`;
      results.push({ id: operation.id, headers: {}, ...run(operation, key, results) });
    }
    if (fault === "cut") throw new TypeError("fetch failed");
    return new Response(JSON.stringify({ results }), { status: 207 });
  };
  const dues = new Dues({ url: "http://dues.test", token: "t", fetch, retries: 0 });
  return { dues, rows, seen, busy, refused, signedOut };
}

const post = (text, more = {}) => ({ method: "POST", path: "/v1/posts", body: { body: text }, ...more });
const texts = (rows) => [...rows.values()].map((row) => row.body.body);

test("operations are done in their order, a hundred at a time", async () => {
  const { dues, rows, seen } = server();
  const queue = new OfflineQueue(dues, memoryStorage());
  for (let i = 0; i < 250; i++) await queue.add(post(`${i}`));
  const outcomes = await queue.flush();
  assert.deepEqual(seen, [100, 100, 50]);
  assert.deepEqual(texts(rows), Array.from({ length: 250 }, (_, i) => `${i}`));
  assert.ok(outcomes.every((outcome) => outcome.status === 201));
  assert.deepEqual(await queue.pending(), []);
});

for (const fault of ["lost", "cut"]) {
  test(`nothing is lost or done twice where a ${fault === "lost" ? "question" : "answer"} is lost`, async () => {
    const { dues, rows } = server([fault, fault]);
    const queue = new OfflineQueue(dues, memoryStorage());
    for (const text of ["a", "b", "c"]) await queue.add(post(text));
    for (let i = 0; i < 2; i++) await assert.rejects(queue.flush(), isOffline);
    assert.equal((await queue.flush()).length, 3);
    assert.deepEqual(texts(rows), ["a", "b", "c"]);
  });
}

test("a program that ends goes on with what its file holds", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "dues-"));
  t.after(() => rm(folder, { recursive: true }));
  const { dues, rows } = server(["cut"]);
  const first = new OfflineQueue(dues, fileStorage(join(folder, "queue.json")));
  await Promise.all(["a", "b", "c"].map((text) => first.add(post(text))));
  await assert.rejects(first.flush(), isOffline);
  const second = new OfflineQueue(dues, fileStorage(join(folder, "queue.json")));
  assert.equal((await second.pending()).length, 3);
  assert.equal((await second.flush()).length, 3);
  assert.equal(rows.size, 3);
  assert.deepEqual(await new OfflineQueue(dues, fileStorage(join(folder, "queue.json"))).pending(), []);
});

test("an answer is used by later operations, in the same batch and after it", async () => {
  const { dues, rows, busy } = server();
  const queue = new OfflineQueue(dues, memoryStorage());
  const { id } = await queue.add(post("post"));
  const path = `/v1/posts/$${id}.id/comments`;
  await queue.add({ method: "POST", path, body: { body: "now" } });
  await queue.add({ method: "POST", path: "/v1/later", body: { of: { $ref: `${id}#/id` } } });
  busy.add("/v1/later");
  assert.equal((await queue.flush()).length, 2);
  assert.equal((await queue.pending())[0].body.of, "row0");
  busy.clear();
  await queue.flush();
  assert.deepEqual(
    [...rows.values()].map((row) => row.path),
    ["/v1/posts", "/v1/posts/row0/comments", "/v1/later"],
  );
  assert.equal(rows.get("row2").body.of, "row0");
});

test("what uses the answer of an operation that failed ends with it, and the rest goes on", async () => {
  const { dues, rows, refused } = server();
  const told = [];
  const queue = new OfflineQueue(dues, memoryStorage(), { onOutcome: (outcome) => void told.push(outcome.code) });
  refused.add("/v1/refused");
  const { id } = await queue.add(post("bad", { path: "/v1/refused" }));
  await queue.add({ method: "PATCH", path: `/v1/posts/$${id}.id`, body: {} });
  await queue.add(post("good"));
  await queue.flush();
  assert.deepEqual(told.sort(), ["", "failed_dependency", "validation"]);
  assert.deepEqual(texts(rows), ["good"]);
  assert.deepEqual(await queue.pending(), []);
});

test("an operation for which a whole batch is refused ends alone, wherever it is", async () => {
  for (const place of [0, 1, 57, 99, 149]) {
    const { dues, rows } = server();
    const told = [];
    const queue = new OfflineQueue(dues, memoryStorage(), { onOutcome: ({ status, code }) => void told.push(`${status} ${code}`) });
    let id;
    for (let i = 0; i < 150; i++) ({ id } = await queue.add(post(`${i}`, i === place ? { path: "/poison" } : {})));
    // One that uses the answer of another is done after it, however the batch is cut.
    await queue.add(post({ $ref: `${id}#/id` }));
    await queue.flush();
    const good = told.filter((outcome) => outcome === "201 ");
    assert.equal(told.filter((outcome) => outcome === "422 validation").length, 1);
    assert.equal(good.length, place === 149 ? 149 : 150);
    assert.deepEqual(
      texts(rows).filter((text) => !text.startsWith("row")),
      Array.from({ length: 150 }, (_, i) => `${i}`).filter((_, i) => i !== place),
    );
    assert.deepEqual(await queue.pending(), []);
  }
});

test("what is too large for one batch is sent in several, and what is too large for any ends", async () => {
  const { dues, rows, seen } = server();
  const queue = new OfflineQueue(dues, memoryStorage());
  for (let i = 0; i < 20; i++) await queue.add(post("é".repeat(60_000)));
  await queue.add(post("x".repeat(2_000_000)));
  await queue.add(post("last"));
  const outcomes = await queue.flush();
  assert.deepEqual(outcomes.filter((outcome) => outcome.status !== 201).map((outcome) => outcome.code), ["payload_too_large"]);
  assert.equal(rows.size, 21);
  assert.ok(seen.every((count) => count <= 7));
});

test("whose token has run out keeps what was not done", async () => {
  const { dues, rows, signedOut } = server();
  const queue = new OfflineQueue(dues, memoryStorage());
  signedOut.path = "/v1/posts";
  await queue.add(post("a"));
  assert.deepEqual(await queue.flush(), []);
  signedOut.path = "";
  assert.equal((await queue.flush()).length, 1);
  assert.equal(rows.size, 1);
});

// Whether a request moves money is what the server's routes say.
const MONEY = [
  ["POST", "/v1/stores/s/payments", true],
  ["POST", "/v1/stores/s/payments/$p.id/refunds", true],
  ["POST", "/v1/stores/s/payments/p/confirmations?x=1", true],
  ["PATCH", "/v1/stores/s/subscriptions/x", true],
  ["DELETE", "/v1/stores/s/subscriptions/x", true],
  ["PATCH", "/v1/stores/s/packages/x", false],
  ["POST", "/v1/posts", false],
];

test("nobody is charged for what was done the day before", async () => {
  for (const [method, path, moves] of MONEY) {
    const { dues } = server();
    let now = 0;
    const queue = new OfflineQueue(dues, memoryStorage(), { clock: () => now });
    await queue.add({ method, path: path.replace("$p.id", "p"), body: {} });
    now = 25 * HOUR;
    const [outcome] = await queue.flush();
    assert.equal(outcome.code, moves ? "stale_operation" : "", `${method} ${path}`);
  }
});

test("what waits for a busy server keeps what uses its answer waiting", async () => {
  const { dues, rows, busy } = server();
  const queue = new OfflineQueue(dues, memoryStorage());
  busy.add("/v1/posts");
  const { id } = await queue.add(post("post"));
  await queue.add({ method: "POST", path: `/v1/posts/$${id}.id/comments`, body: {} });
  assert.deepEqual(await queue.flush(), []);
  assert.equal((await queue.pending()).length, 2);
  busy.clear();
  assert.equal((await queue.flush()).length, 2);
  assert.equal(rows.size, 2);
});

test("nobody is charged the day after, and nothing is done again that may have been forgotten", async () => {
  const faults = ["cut"];
  const { dues, rows } = server(faults);
  let now = 0;
  const queue = new OfflineQueue(dues, memoryStorage(), { clock: () => now });
  await queue.add(post("sent"));
  await assert.rejects(queue.flush(), isOffline);
  await queue.add({ method: "POST", path: "/v1/stores/s/payments", body: { amount: 5 } });
  now = 25 * HOUR;
  assert.deepEqual(
    (await queue.flush()).map((outcome) => [outcome.status, outcome.code]),
    [
      [0, "uncertain"],
      [0, "stale_operation"],
    ],
  );
  assert.equal(rows.size, 1);
});

test("at random, over restarts: as if each had been done once, in its order", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "dues-"));
  t.after(() => rm(folder, { recursive: true }));
  let seed = 7;
  const random = (most) => (seed = (seed * 48271) % 2147483647) % most;
  const faults = Array.from({ length: 120 }, () => ["lost", "cut", undefined][random(3)]);
  const { dues, rows } = server(faults);
  let added = 0;
  let queue;
  for (let step = 0; step < 150; step++) {
    if (!queue || random(4) === 0) queue = new OfflineQueue(dues, fileStorage(join(folder, "queue.json")));
    if (random(3)) await queue.add(post(`${added++}`));
    else await queue.flush().catch((error) => assert.ok(isOffline(error)));
  }
  while ((await queue.pending()).length) await queue.flush().catch(() => undefined);
  assert.deepEqual(texts(rows), Array.from({ length: added }, (_, i) => `${i}`));
});
