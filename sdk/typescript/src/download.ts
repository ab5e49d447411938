/** Files: read as they come in, and taken up where they broke off. */

import { ApiError, DownloadChanged, NetworkError } from "./errors.js";
import type { Caller, CallOptions } from "./options.js";
import { retryDelay, sleep } from "./retry.js";

const MOST_FAILURES = 5;

/** A file of the API. Nothing is loaded until it is read. */
export class Download implements AsyncIterable<Uint8Array> {
  contentType = "";
  filename = "";

  constructor(
    private readonly caller: Caller,
    private readonly path: string,
    private readonly options: CallOptions,
  ) {}

  /** Its bytes, in pieces. Throws: DownloadChanged where the rest is of another file. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    let done = 0;
    let etag = "";
    for (let failures = 0; ; ) {
      const headers: Record<string, string> = { Accept: "*/*" };
      if (done) Object.assign(headers, { Range: `bytes=${done}-`, "If-Range": etag });
      const request = { method: "GET", path: this.path, headers, ...this.options };
      try {
        const response = await this.caller.open(request);
        if (done && response.status !== 206) throw new DownloadChanged("the file is another one now");
        etag = response.headers.get("etag") ?? "";
        this.contentType = response.headers.get("content-type") ?? "";
        this.filename = filename(response.headers.get("content-disposition") ?? "");
        const reader = response.body?.getReader();
        for (;;) {
          const piece = await reader?.read().catch((error: unknown) => {
            throw new NetworkError("the connection broke", { cause: error });
          });
          if (!piece || piece.done) return;
          done += piece.value.length;
          failures = 0;
          yield piece.value;
        }
      } catch (error) {
        if (!(error instanceof ApiError || error instanceof NetworkError) || this.options.signal?.aborted) throw error;
        const delay = retryDelay(++failures, error, request);
        // What was compressed on its way has no place to be taken up at.
        if (delay === undefined || failures > MOST_FAILURES || (done && !isWhole(etag))) throw error;
        await sleep(delay, this.options.signal);
      }
    }
  }

  /** All of it. */
  async blob(): Promise<Blob> {
    const pieces: BlobPart[] = [];
    for await (const piece of this) pieces.push(piece as BlobPart);
    return new Blob(pieces, { type: this.contentType });
  }

  async text(): Promise<string> {
    return (await this.blob()).text();
  }
}

function isWhole(etag: string): boolean {
  return etag.startsWith('"') && !/:(zstd|br|gzip|deflate)"$/.test(etag);
}

/** Of `attachment; filename="payments.csv"`; the name alone, whatever folders it was sent with. */
function filename(disposition: string): string {
  const name = /filename="?([^";]*)/.exec(disposition)?.[1] ?? "";
  return name.split(/[\\/]/).at(-1) ?? "";
}
