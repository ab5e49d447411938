// One call of the client: what is sent, when it is sent again, and what is thrown. A `fetch` of ours stands for the server.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";

import * as client from "../dist/index.js";

const { Dues, webhooks } = client;
const PACKAGE = { id: "p", name: "Day", amount: 1500, currency: "EUR", version: 3 };
const LOST = new TypeError("fetch failed");
const BUSY = { status: 409, problem: { code: "idempotency_key_in_use" } };

function script(...steps) {
  const requests = [];
  const fetch = async (url, init) => {
    requests.push({ url: new URL(url), ...init });
    const step = steps.shift();
    if (step instanceof Error) throw step;
    const { status, problem = {}, headers = {}, data = PACKAGE } = typeof step === "number" ? { status: step } : step;
    const document = status < 300 ? data : { code: `code_${status}`, ...problem };
    return new Response(status === 204 ? null : JSON.stringify(document), { status, headers });
  };
  return { requests, dues: new Dues({ url: "http://dues.test", token: "t", fetch }) };
}

const CALLS = {
  create: (dues, options) => dues.packages.create("s", { name: "Day", amount: 1500, interval: "once" }, options),
  change: (dues, options) => dues.packages.change("s", "p", { name: "Night" }, options),
  read: (dues) => dues.packages.get("s", "p"),
};

for (const [name, call] of Object.entries(CALLS)) {
  for (const step of [LOST, BUSY, 429, 502, 503, 504]) {
    test(`${name} is tried again after ${step.status ?? step}`, { concurrency: true }, async () => {
      const { requests, dues } = script(step, 200);
      assert.equal((await call(dues)).name, "Day");
      assert.equal(requests.length, 2);
    });
  }
  for (const status of [400, 401, 403, 404, 409, 412, 422, 500]) {
    test(`${name} is not tried again after ${status}`, async () => {
      const { requests, dues } = script(status);
      await assert.rejects(call(dues), { status, code: `code_${status}` });
      assert.equal(requests.length, 1);
    });
  }
}

test("what is bound to a version is not sent twice", async () => {
  const { requests, dues } = script(LOST);
  await assert.rejects(CALLS.change(dues, { ifVersion: 3 }), client.NetworkError);
  assert.equal(requests[0].headers["If-Match"], '"3"');
});

test("a deletion whose answer was lost is done", async () => {
  await script(LOST, 404).dues.posts.delete("p");
  await assert.rejects(script(404).dues.posts.delete("p"), client.NotFound);
});

test("one key is kept over all attempts of a call", async () => {
  const { requests, dues } = script(LOST, BUSY, 200, 200);
  await CALLS.create(dues);
  await CALLS.create(dues, { idempotencyKey: "order-1" });
  const keys = requests.map((request) => request.headers["Idempotency-Key"]);
  assert.equal(new Set(keys.slice(0, 3)).size, 1);
  assert.equal(keys[3], "order-1");
});

test("errors are of their code", async () => {
  const problem = { code: "email_taken", request_id: "r", errors: [{ pointer: "#/email" }] };
  await assert.rejects(CALLS.create(script({ status: 409, problem }).dues), (error) => {
    assert.ok(error instanceof client.EmailTaken && error instanceof client.Conflict);
    assert.deepEqual([error.requestId, error.errors[0].pointer, error.name], ["r", "#/email", "EmailTaken"]);
    return true;
  });
  await assert.rejects(CALLS.create(script({ status: 400, problem }).dues), client.BadRequest);
});

test("what is sent", async () => {
  const meta = { current_page: 2, last_page: 2 };
  const { requests, dues } = script({ status: 200, data: { data: [PACKAGE], meta, links: {} } });
  await dues.packages.list("a/../b", { query: { "amount[gte]": 5, fields: ["id", "name"] } }).page(2, { perPage: 50 });
  const { url, headers } = requests[0];
  assert.equal(url.pathname, "/v1/stores/a%2F..%2Fb/packages");
  const sent = { "amount[gte]": "5", fields: "id,name", page: "2", per_page: "50" };
  assert.deepEqual(Object.fromEntries(url.searchParams), sent);
  assert.equal(headers.Authorization, "Bearer t");
  for (const id of ["", ".", ".."]) assert.throws(() => dues.packages.get("s", id), TypeError);
});

test("a list is walked by its links", async () => {
  const pages = [
    { data: [{ id: 1 }, { id: 2 }], links: { next: "/v1/stores/s/packages?cursor=x" } },
    { data: [{ id: 3 }], links: { next: null } },
  ];
  const { requests, dues } = script(...pages.map((data) => ({ status: 200, data })));
  assert.deepEqual((await dues.packages.list("s").toArray()).map((row) => row.id), [1, 2, 3]);
  assert.equal(requests[1].url.search, "?cursor=x");
});

test("a call can be given up", async () => {
  const { dues } = script({ status: 503, headers: { "retry-after": "9" } });
  await assert.rejects(dues.packages.get("s", "p", { signal: AbortSignal.timeout(20) }), { name: "TimeoutError" });
});

test("what no header can hold is told at once and not shown", async () => {
  for (const token of ["dues_x\r\nX-A: 1", "dues\0_x", "dues_€"]) {
    const { requests, dues } = script({ status: 200 });
    const told = await dues.withOptions({ token }).stores.get("s").catch((error) => error);
    assert.match(told.message, /Authorization/);
    assert.doesNotMatch(told.message, /dues/);
    assert.ok(told instanceof TypeError);
    assert.equal(requests.length, 0);
  }
});

test("webhooks are verified", async () => {
  const secret = "whsec_" + Buffer.alloc(32, 1).toString("base64");
  const body = JSON.stringify({ type: "payment.succeeded", seq: 7, data: { amount: 5 } });
  const at = String(Math.floor(Date.now() / 1000));
  const signature = createHmac("sha256", Buffer.alloc(32, 1)).update(`evt.${at}.${body}`).digest("base64");
  const headers = { "Webhook-Id": "evt", "Webhook-Timestamp": at, "Webhook-Signature": `v1,AAAA v1,${signature}` };
  assert.deepEqual(await webhooks.verify(body, headers, secret), { ...JSON.parse(body), id: "evt" });
  assert.equal((await webhooks.verify(Buffer.from(body), new Headers(headers), ["whsec_AAAA", secret])).seq, 7);
  for (const [bad, sent] of [
    [body + " ", headers],
    [body, { ...headers, "Webhook-Timestamp": "1" }],
    [body, { ...headers, "Webhook-Id": "other" }],
    [body, {}],
  ]) {
    await assert.rejects(webhooks.verify(bad, sent, secret), client.InvalidSignature);
  }
});

test("money has its digits", () => {
  assert.equal(client.formatMoney({ amount: 123456, currency: "EUR" }, "en"), "€1,234.56");
  assert.equal(client.formatMoney({ amount: 5, currency: "JPY" }, "en"), "¥5");
  assert.equal(client.exponent("KWD"), 3);
});

test("a sync is walked through page by page, its operations sent once", async () => {
  const page = (cursor, has_more) => ({ status: 200, data: { results: [], changes: [], reset: [], cursor, has_more } });
  const { requests, dues } = script(LOST, page("a", true), page("b", false));
  const cursors = [];
  for await (const { cursor } of dues.sync.pages(null, { ops: [{ id: "o" }], types: ["post"] })) cursors.push(cursor);
  assert.deepEqual(cursors, ["a", "b"]);
  const sent = requests.map(({ body }) => JSON.parse(body));
  assert.deepEqual(sent[0], sent[1]);
  assert.deepEqual(sent[2], { cursor: "a", ops: [], types: ["post"] });
});
