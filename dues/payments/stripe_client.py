"""Stripe's API through Stripe's own package: a client for each account, and the translation of its errors into ours.

Nothing is set globally on the package: key, version and base address belong to each client. The package's retries are
off, because each call is made by a job that is retried and carries a key of ours; its telemetry is off too. Messages of
its errors are neither logged nor shown, because they may quote what was sent.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import stripe
import urllib3

from dues.payments.gateway import GatewayBusy, GatewayTimeout

# The version whose data structures are read here; Stripe keeps each version unchanged.
API_VERSION = "2026-10-28.endive"

log = logging.getLogger("dues.payments.stripe")
# The package logs requests, and at a lower level their bodies.
logging.getLogger("stripe").setLevel(logging.ERROR)

_POOL = urllib3.PoolManager(maxsize=8, retries=False)


class _Http(stripe.HTTPClient):
    """The package's transport, by the HTTP library that Dues uses anyway: without proxy, netrc or redirects, and
    limited in time."""

    name = "urllib3"

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._timeout = urllib3.Timeout(connect=timeout_s, read=timeout_s)

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **_: Any
    ) -> tuple[str, int, Mapping[str, str]]:
        try:
            answer = _POOL.request(
                method.upper(), url, headers=headers, body=post_data, timeout=self._timeout, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise stripe.APIConnectionError(type(error).__name__) from None  # type: ignore[no-untyped-call]
        return answer.data.decode("utf-8", "replace"), answer.status, answer.headers

    def close(self) -> None:
        """Does nothing: the pool is shared."""

    def _add_telemetry_header(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        return headers

    def _record_request_metrics(self, response: Any, request_start: Any, usage: Any) -> None:
        pass


def client(secret_key: str, base: str, timeout_s: float) -> stripe.StripeClient:
    """A client for one account. Its calls take at most `timeout_s` seconds each to connect and to read."""
    return stripe.StripeClient(
        secret_key,
        stripe_version=API_VERSION,
        max_network_retries=0,
        http_client=_Http(timeout_s),
        base_addresses={"api": base},
    )


def document(answer: Any) -> dict[str, Any]:
    """An answer as plain data."""
    return cast(dict[str, Any], answer.to_dict())


# Refusals that are not the payer's fault: our request does not fit the version of the API. It is sent again, and the
# operator finds it in the log.
_OUR_FAULT = {"parameter_unknown", "parameter_missing", "payment_method_types_no_longer_supported"}


class Refused(Exception):
    """Stripe has decided not to do what was asked, and never will under this key. `code` says why; `intent` is the
    PaymentIntent concerned, if any."""

    def __init__(self, code: str, intent: Mapping[str, Any] | None) -> None:
        super().__init__(code)
        self.code, self.intent = code, intent


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translates the errors of a call. Raises: GatewayTimeout if the operation may have been done; GatewayBusy if it
    certainly was not; Refused."""
    try:
        yield
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        log.error("Stripe does not let us in: %s, request %s", type(error).__name__, error.request_id)
        raise GatewayBusy("Stripe refuses the store's secret key") from None
    except stripe.RateLimitError:
        raise GatewayBusy("Stripe has had too many requests of the store") from None
    except stripe.IdempotencyError:
        raise GatewayTimeout("a request under the same key is on its way to Stripe") from None
    except (stripe.CardError, stripe.InvalidRequestError) as error:
        if error.http_status == 409:
            raise GatewayTimeout("Stripe is at work on a request under the same key") from None
        code, intent = _why(error)
        if code in _OUR_FAULT:
            log.error("Stripe does not take what we send: %s of %s, request %s", code, error.param, error.request_id)
            raise GatewayBusy(f"Stripe does not take what it is sent: {code}") from None
        raise Refused(code, intent) from None
    except stripe.StripeError as error:
        raise GatewayTimeout(f"Stripe did not answer: {type(error).__name__}") from None


def _why(error: stripe.StripeError) -> tuple[str, Mapping[str, Any] | None]:
    body = error.json_body if isinstance(error.json_body, dict) else {}
    found = body.get("error") or {}
    # The bank's own reason is more precise than the fact that the card was declined.
    return found.get("decline_code") or found.get("code") or "invalid_request", found.get("payment_intent")
