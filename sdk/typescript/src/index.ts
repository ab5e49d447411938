/**
 * A client of Dues, the membership and payments backend, for browsers and Node 20.
 *
 *     const dues = await new Dues({ url }).logIn(email, password);
 *     const payment = await (await dues.payments.create(storeId, { package_id, payment_method })).wait();
 */

export { Dues, type DuesOptions } from "./client.js";
export { Download } from "./download.js";
export * from "./errors.js";
export * from "./generated.js";
export { exponent, formatMoney, type Money } from "./money.js";
export type { Answer, CallOptions, KeyedOptions, ListOptions, SlowOptions, VersionOptions } from "./options.js";
export { type Page, Paged } from "./paging.js";
export {
  indexedDbStorage,
  isOffline,
  memoryStorage,
  type NewOperation,
  OfflineQueue,
  type Operation,
  type Outcome,
  type QueueOptions,
  type QueueStorage,
} from "./queue.js";
export type { SyncOptions } from "./sync.js";
export { Started, type WaitOptions } from "./started.js";
export * as webhooks from "./webhooks.js";
export type { WebhookEvent } from "./webhooks.js";
