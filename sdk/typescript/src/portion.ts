/** How much of what waits one request takes. */

const MOST_OPERATIONS = 100;
// The server takes a megabyte, of which a little is around the operations.
const MOST_BYTES = 900_000;

/** The first of the operations, as many as one request may send, and at least one. */
export function portion<T>(operations: readonly T[], most = MOST_OPERATIONS): T[] {
  let room = MOST_BYTES;
  const first = operations.slice(0, most);
  const end = first.findIndex((operation, place) => {
    room -= new TextEncoder().encode(JSON.stringify(operation)).length;
    return room < 0 && place > 0;
  });
  return end < 0 ? first : first.slice(0, end);
}
