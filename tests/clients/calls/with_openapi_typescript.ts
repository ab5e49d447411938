// Twelve calls with the types that openapi-typescript makes of the document, through openapi-fetch.
import createClient from "openapi-fetch";
import type { components, paths } from "./dues.js";

type Payment = components["schemas"]["Payment"];

function ok<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  if (answer.data === undefined) throw new Error(`${answer.response.status} ${JSON.stringify(answer.error)}`);
  return answer.data;
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

async function main(url: string): Promise<void> {
  const api = createClient<paths>({ baseUrl: url });
  const email = `${crypto.randomUUID()}@example.com`;
  const password = "a long enough passphrase";
  const user = ok(await api.POST("/v1/users", { body: { email, name: "Ada", password } }));
  const issued = ok(await api.POST("/v1/tokens", { body: { email, password } }));
  api.use({
    onRequest({ request }) {
      request.headers.set("Authorization", `Bearer ${issued.token}`);
    },
  });

  const me = ok(await api.GET("/v1/me"));
  check(me.id === user.id && !me.email_verified, "another user");

  const store = ok(await api.POST("/v1/stores", { body: { name: "Climbing", currency: "EUR" } }));
  const path = { store_id: store.id };
  const interval = "once";
  const made = { params: { path }, body: { name: "Day pass", amount: 1500, interval } } as const;
  const added = ok(await api.POST("/v1/stores/{store_id}/packages", made));

  const pages = ok(await api.GET("/v1/stores/{store_id}/packages", { params: { path } }));
  check("total" in pages.meta && pages.meta.total === 1, "no total");
  const amount: number = pages.data[0]!.amount;
  check(amount === 1500, "another amount");
  const query = { cursor: "", limit: 1 };
  const walk = ok(await api.GET("/v1/stores/{store_id}/packages", { params: { path, query } }));
  check("has_more" in walk.meta && !walk.meta.has_more, "no end");

  const header = { "Idempotency-Key": "order-1", Prefer: "wait=20" };
  const paid = await api.POST("/v1/stores/{store_id}/payments", {
    params: { path, header },
    body: { package_id: added.id, payment_method: "sandbox_ok" },
  });
  const payment: Payment = ok(paid);
  check(paid.response.status === 201 && payment.status === "succeeded", `the payment is ${payment.status}`);

  // Arrays are written as the generator's companion writes them: once for each name.
  const include: ("user" | "package")[] = ["user", "package"];
  const listed = ok(await api.GET("/v1/stores/{store_id}/payments", { params: { path, query: { include } } }));
  check(listed.data[0]?.package?.id === added.id, "no package");

  const match = { path, header: { "If-Match": '"1"' } };
  check(ok(await api.PATCH("/v1/stores/{store_id}", { params: match, body: { name: "Bouldering" } })).version === 2, "version");
  const stale = await api.PATCH("/v1/stores/{store_id}", { params: match, body: { name: "Late" } });
  check(stale.error?.code === "precondition_failed", "a stale version was changed");

  const wanted = { kind: "payments", format: "csv", from: "2026-01-01T00:00:00Z", to: "2099-01-01T00:00:00Z" } as const;
  const asked = { params: { path, header: { Prefer: "wait=20" } }, body: wanted };
  const report = ok(await api.POST("/v1/stores/{store_id}/reports", asked));
  const job_id = report.links.job!.split("/").pop()!;
  check(ok(await api.GET("/v1/jobs/{job_id}", { params: { path: { job_id } } })).done, "the job is not done");
  const where = { params: { path: { ...path, report_id: report.id } }, parseAs: "blob" } as const;
  const file = await ok(await api.GET("/v1/stores/{store_id}/reports/{report_id}/file", where)).text();
  check(file.startsWith("id,"), "no file");
}

await main(process.argv[2]!);
console.log("12 calls");
