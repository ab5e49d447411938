/** Slow work that was begun: followed to its end. */

import { failureOf, JobFailed, WaitTimedOut } from "./errors.js";
import type { Job } from "./generated.js";
import type { Answer, Caller } from "./options.js";

// As long as the server holds an answer at most, less a little.
const HOLD_S = 20;

export interface WaitOptions {
  /** Milliseconds, at most. */
  timeout?: number;
  /** Gets the job's status at each change. */
  onProgress?: (job: Job) => void;
  /** Whether an outcome that is a failure is thrown. */
  check?: boolean;
  signal?: AbortSignal;
}

/** What was asked for, and the job that is at work on it: `await (await dues.reports.create(…)).wait()`. */
export class Started<T extends object> {
  /** The resource as it was answered last. */
  resource: T;
  /** The job's status URL; undefined once the work is done. */
  jobPath: string | undefined;

  constructor(
    private readonly caller: Caller,
    answer: Answer,
  ) {
    this.resource = answer.data as T;
    // 201: it was done before it was answered (`wait`).
    this.jobPath = answer.status === 202 ? (answer.headers.get("location") ?? undefined) : undefined;
  }

  get done(): boolean {
    return this.jobPath === undefined;
  }

  /**
   * The finished resource. Throws: WaitTimedOut; JobFailed; with `check` ResourceFailed (such as CardDeclined) where
   * the outcome is that the resource has failed.
   */
  async wait({ timeout = 300_000, onProgress, check = true, signal }: WaitOptions = {}): Promise<T> {
    if (this.jobPath !== undefined) {
      const job = await this.follow(this.jobPath, Date.now() + timeout, onProgress, signal);
      if (job.status !== "succeeded") throw new JobFailed(job);
      const links = "links" in this.resource ? (this.resource.links as Record<string, string | null>) : {};
      if (links["self"]) {
        this.resource = (await this.caller.call({ method: "GET", path: links["self"], signal })).data as T;
      }
      this.jobPath = undefined;
    }
    if (check && "status" in this.resource && this.resource.status === "failed") throw failureOf(this.resource);
    return this.resource;
  }

  /** By long polls: each is answered as soon as there is something new. */
  private async follow(
    path: string,
    giveUp: number,
    onProgress: ((job: Job) => void) | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Job> {
    let answer = await this.caller.call({ method: "GET", path, signal });
    let job = answer.data as Job;
    for (;;) {
      if (answer.status !== 304) onProgress?.(job);
      const left = giveUp - Date.now();
      if (job.done) return job;
      if (left <= 0) throw new WaitTimedOut(job);
      const held = Math.max(1, Math.min(HOLD_S, Math.floor(left / 1000)));
      const headers = { Prefer: `wait=${held}`, "If-None-Match": answer.headers.get("etag") ?? "" };
      answer = await this.caller.call({ method: "GET", path, headers, signal, requestTimeout: (held + 10) * 1000 });
      if (answer.status !== 304) job = answer.data as Job;
    }
  }
}
