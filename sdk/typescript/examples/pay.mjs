// Log in, see what a store sells and what it has been paid, buy something, and know how it came out.
import { CardDeclined, Dues, formatMoney } from "dues-client";

const [storeId, email, password] = process.argv.slice(2);
const dues = await new Dues().logIn(email, password);
const totals = {};
for await (const payment of dues.payments.list(storeId, { query: { status: "succeeded", include: ["package"] } })) {
  const name = payment.package?.name ?? "other";
  totals[name] = (totals[name] ?? 0) + payment.amount;
}
const [pack] = await dues.packages.list(storeId).toArray(1);
try {
  const started = await dues.payments.create(storeId, { package_id: pack.id, payment_method: "sandbox_ok" });
  const bought = await started.wait();
  console.log(`${pack.name}: ${formatMoney(bought, "en")} ${bought.status}; before that ${JSON.stringify(totals)}`);
} catch (error) {
  if (!(error instanceof CardDeclined)) throw error;
  console.log("another card, please");
}
