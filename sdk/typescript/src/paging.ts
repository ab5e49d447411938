/** Lists: walked through to their end, or read by the page. */

import type { Caller, ListOptions, Query } from "./options.js";

const MOST_ROWS = 100;

/** One page by its number. `last_page` is above `current_page` as long as rows follow. */
export interface Page<T> {
  readonly data: readonly T[];
  readonly meta: {
    readonly current_page: number;
    readonly last_page: number;
    readonly per_page: number;
    readonly total: number;
    readonly total_is_exact: boolean;
  };
}

interface Rows<T> {
  readonly data: readonly T[];
  readonly links: { readonly next: string | null };
}

/** A list of the API. Nothing is asked for until it is walked through, or a page of it is wanted. */
export class Paged<T> implements AsyncIterable<T> {
  constructor(
    private readonly caller: Caller,
    private readonly path: string,
    private readonly options: ListOptions & { query?: Query },
  ) {}

  /** Every row once, by cursor: rows that come or go meanwhile move no others. */
  [Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    return this.walk(this.options.pageSize ?? MOST_ROWS);
  }

  private async *walk(limit: number): AsyncGenerator<T, void, undefined> {
    let link: string | null = this.path;
    let query: Query | undefined = { ...this.options.query, cursor: "", limit };
    while (link) {
      const { data, links }: Rows<T> = (await this.get(link, query)) as Rows<T>;
      yield* data;
      // The link has all the parameters in it.
      link = links.next;
      query = undefined;
    }
  }

  private async get(path: string, query: Query | undefined): Promise<unknown> {
    const { signal, requestTimeout } = this.options;
    return (await this.caller.call({ method: "GET", path, query, signal, requestTimeout })).data;
  }

  /** One page by its number, from 1 on; `exact` has the rows counted however many there are. */
  async page(number = 1, { perPage, exact = false }: { perPage?: number; exact?: boolean } = {}): Promise<Page<T>> {
    const per_page = perPage ?? this.options.pageSize ?? MOST_ROWS;
    const query = { ...this.options.query, page: number, per_page, total: exact ? "exact" : undefined };
    return (await this.get(this.path, query)) as Page<T>;
  }

  /** The rows as an array: all of them, or the first `limit`. */
  async toArray(limit = Infinity): Promise<T[]> {
    const rows: T[] = [];
    if (limit < 1) return rows;
    for await (const row of this.walk(Math.min(this.options.pageSize ?? MOST_ROWS, limit))) {
      if (rows.push(row) >= limit) break;
    }
    return rows;
  }

  /** The first row, or undefined. */
  async first(): Promise<T | undefined> {
    return (await this.toArray(1))[0];
  }
}
