/** The offline queue's operations in a file, for programs in Node: `import { fileStorage } from "dues-client/file"`. */

import { open, readFile, rename } from "node:fs/promises";

import type { Operation, QueueStorage } from "./queue.js";

interface Kept {
  key: string;
  operations: Operation[];
}

/** In the file at `path`, which one program at a time may use. */
export function fileStorage(path: string): QueueStorage {
  let kept: Kept | undefined;
  // One write after the other.
  let last: Promise<unknown> = Promise.resolve();

  async function load(): Promise<Kept> {
    if (kept) return kept;
    try {
      return (kept = JSON.parse(await readFile(path, "utf8")) as Kept);
    } catch (error) {
      if ((error as { code?: string }).code !== "ENOENT") throw error;
      return (kept = { key: crypto.randomUUID(), operations: [] });
    }
  }

  function next<T>(work: () => Promise<T>): Promise<T> {
    const done = last.then(work);
    last = done.catch(() => undefined);
    return done;
  }

  /** Whole or not at all: a program may end in the middle. */
  async function write(operations: Operation[]): Promise<void> {
    const { key } = await load();
    const file = await open(`${path}.new`, "w", 0o600);
    try {
      await file.writeFile(JSON.stringify({ key, operations }));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
    kept = { key, operations };
  }

  return {
    key: () =>
      next(async () => {
        const { key, operations } = await load();
        await write(operations);
        return key;
      }),
    all: () => next(async () => (await load()).operations.map((operation) => ({ ...operation }))),
    put: (operation) =>
      next(async () => {
        const { operations } = await load();
        const found = operations.some((other) => other.id === operation.id);
        const changed = operations.map((other) => (other.id === operation.id ? { ...operation } : other));
        await write(found ? changed : [...operations, { ...operation }]);
      }),
    delete: (id) => next(async () => write((await load()).operations.filter((operation) => operation.id !== id))),
  };
}
