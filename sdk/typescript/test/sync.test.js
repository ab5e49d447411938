// A sync sends what one request takes at a time, and stops where an earlier operation has to be sent again first.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Dues } from "../dist/index.js";

/** Answers syncs, in pages of one change. `statuses`: what operations are answered, by their ids. */
function server(statuses = {}) {
  const sent = [];
  const fetch = async (_url, init) => {
    const { cursor, ops } = JSON.parse(init.body);
    sent.push(ops.map((op) => op.id));
    const results = ops.map(({ id }) => {
      const status = statuses[id] ?? 201;
      return status < 400 ? { id, status, body: null } : { id, status, problem: { code: "x" } };
    });
    const place = Number(cursor ?? 0) + 1;
    return new Response(JSON.stringify({ results, changes: [], cursor: `${place}`, has_more: place === 1, reset: [] }));
  };
  return { dues: new Dues({ url: "http://dues.test", token: "t", fetch, retries: 0 }), sent };
}

const ops = (count, more = {}) =>
  Array.from({ length: count }, (_, i) => ({ id: `${i}`, at: "2026-01-01T00:00:00Z", method: "POST", path: "/v1/posts", ...more }));

async function walk(pages) {
  const results = [];
  let cursor;
  for await (const page of pages) {
    results.push(...page.results.map((result) => result.id));
    cursor = page.cursor;
  }
  return { results, cursor };
}

test("any number of operations is sent, a hundred at a time, and all pages are read", async () => {
  for (const [count, requests] of [[0, 2], [1, 2], [100, 2], [101, 2], [250, 3]]) {
    const { dues, sent } = server();
    const { results, cursor } = await walk(dues.sync.pages(null, { ops: ops(count) }));
    assert.equal(sent.length, requests);
    assert.equal(cursor, `${requests}`);
    assert.deepEqual(results, ops(count).map((op) => op.id));
    assert.ok(sent.every((ids) => ids.length <= 100));
  }
});

test("large operations are sent a megabyte at a time", async () => {
  const { dues, sent } = server();
  await walk(dues.sync.pages(null, { ops: ops(30, { body: { body: "é".repeat(50_000) } }) }));
  assert.deepEqual(sent.map((ids) => ids.length), [8, 8, 8, 6]);
});

test("where one has to be sent again, later ones are not sent before it", async () => {
  for (const [status, requests] of [[429, 2], [503, 2], [404, 3], [424, 3]]) {
    const { dues, sent } = server({ 7: status });
    const { results } = await walk(dues.sync.pages(null, { ops: ops(250) }));
    assert.equal(sent.length, requests, `${status}`);
    assert.equal(results.length, requests === 2 ? 100 : 250);
  }
});
