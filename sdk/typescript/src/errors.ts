/**
 * What can go wrong, as a tree:
 *
 *     DuesError
 *     ├── NetworkError       no answer came: ConnectFailed, TimedOut
 *     ├── ApiError           an answer that refuses, by its status or code: NotFound, ValidationFailed, …
 *     ├── WorkFailed         work was begun and came to a bad end: JobFailed, PaymentFailed, CardDeclined, …
 *     ├── WaitTimedOut       work is still going on
 *     ├── DownloadChanged    the file was replaced while it was being loaded
 *     └── InvalidSignature   a webhook that was not signed with the secret
 */

import type { Job } from "./generated.js";

export class DuesError extends Error {
  override get name(): string {
    return this.constructor.name;
  }
}

/** There was no answer, so it is not known whether the request had an effect. */
export class NetworkError extends DuesError {}

/** The answer, or its end, did not come in time. */
export class TimedOut extends NetworkError {}

/** One fault of a request: `pointer` is a JSON pointer into the body, `parameter` the name of a query parameter. */
export interface Fault {
  readonly code: string;
  readonly detail: string;
  readonly pointer?: string;
  readonly parameter?: string;
}

type Problem = { readonly [name: string]: unknown };

/** The server answered with problem details: `code` is stable, `detail` is for people. */
export class ApiError extends DuesError {
  readonly code: string;
  readonly detail: string;
  readonly errors: readonly Fault[];
  readonly requestId: string;

  constructor(
    readonly status: number,
    readonly members: Problem,
    readonly headers: Headers,
  ) {
    const code = text(members["code"]);
    const detail = text(members["detail"]) || text(members["title"]) || `status ${status}`;
    const requestId = text(members["request_id"]) || (headers.get("x-request-id") ?? "");
    super(`${code || status}: ${detail}${requestId ? ` (request ${requestId})` : ""}`);
    this.code = code;
    this.detail = detail;
    this.requestId = requestId;
    this.errors = Array.isArray(members["errors"]) ? (members["errors"] as Fault[]) : [];
  }

  /** Seconds that the server asks to wait before another try. */
  get retryAfter(): number | undefined {
    const given = this.headers.get("retry-after") ?? "";
    return /^\d+$/.test(given) ? Number(given) : undefined;
  }
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

export class BadRequest extends ApiError {}
export class Unauthenticated extends ApiError {}
export class Forbidden extends ApiError {}
export class NotFound extends ApiError {}
export class Conflict extends ApiError {}
export class InvalidTransition extends Conflict {}
export class EmailTaken extends Conflict {}
export class PackageArchived extends Conflict {}
/** 410: the changes since this cursor are not kept any more. */
export class CursorExpired extends ApiError {}
/** 412: the thing has changed since the version that `ifVersion` names. */
export class PreconditionFailed extends ApiError {}
/** 422: `errors` has every fault with its pointer. */
export class ValidationFailed extends ApiError {}
export class IdempotencyKeyReused extends ValidationFailed {}
/** 429: `retryAfter` says when there may be more requests. */
export class RateLimited extends ApiError {}
export class ServerError extends ApiError {}
export class Unavailable extends ServerError {}
/** An answer that is no JSON: something between here and Dues has answered in its place. */
export class UnreadableAnswer extends ApiError {}

type Kind = new (status: number, members: Problem, headers: Headers) => ApiError;

const BY_STATUS: Record<number, Kind> = {
  400: BadRequest,
  401: Unauthenticated,
  403: Forbidden,
  404: NotFound,
  409: Conflict,
  410: CursorExpired,
  412: PreconditionFailed,
  422: ValidationFailed,
  429: RateLimited,
  503: Unavailable,
};
const BY_CODE: Record<string, Kind> = {
  email_taken: EmailTaken,
  idempotency_key_reused: IdempotencyKeyReused,
  invalid_transition: InvalidTransition,
  package_archived: PackageArchived,
};

/** The error for an answer: by its code, else by its status. */
export function apiError(status: number, members: Problem, headers: Headers): ApiError {
  const byStatus = BY_STATUS[status] ?? (status >= 500 ? ServerError : ApiError);
  const byCode = BY_CODE[text(members["code"])];
  const fits = byCode && (byCode === byStatus || byCode.prototype instanceof byStatus);
  return new (fits ? byCode : byStatus)(status, members, headers);
}

/** Work that was begun came to a bad end. */
export class WorkFailed extends DuesError {}

/** The job failed, or was canceled; `job` is its last status. */
export class JobFailed extends WorkFailed {
  constructor(readonly job: Job) {
    super(`${job.kind} ${job.status}${job.error ? `: ${job.error.detail}` : ""}`);
  }
}

/** The job did its work, and its outcome is that `resource` failed, for the reason `code`. */
export class ResourceFailed extends WorkFailed {
  constructor(
    readonly resource: object,
    readonly code: string,
  ) {
    super(`failed${code ? `: ${code}` : ""}`);
  }
}

export class PaymentFailed extends ResourceFailed {}
export class CardDeclined extends PaymentFailed {}

export function failureOf(resource: object): ResourceFailed {
  const code = "failure_code" in resource ? text(resource.failure_code) : "";
  if (!("refunded_amount" in resource)) return new ResourceFailed(resource, code);
  return new (code === "card_declined" ? CardDeclined : PaymentFailed)(resource, code);
}

/** The work was still going on when the time to wait for it was over. It goes on. */
export class WaitTimedOut extends DuesError {
  constructor(readonly job: Job) {
    super(`${job.kind} is still ${job.status}`);
  }
}

/** The file was replaced by another one while it was being loaded: load it anew. */
export class DownloadChanged extends DuesError {}

/** A webhook that was not signed with the secret, or too long ago. */
export class InvalidSignature extends DuesError {}
