"""A client of Dues, the membership and payments backend.

    from dues_client import Dues

    with Dues(token) as dues:
        for payment in dues.payments.list(store_id, status="failed", include=["user"]):
            print(payment.money, payment.failure_code, payment.user.name)

`AsyncDues` is the same with `async` and `await`. What is answered is in `dues_client.models`, what can go wrong in
`dues_client.errors`.
"""

from dues_client import errors, models, webhooks
from dues_client._async.client import AsyncDues
from dues_client._async.download import AsyncDownload
from dues_client._async.paging import AsyncPage, AsyncPaged
from dues_client._async.started import AsyncStarted
from dues_client._exchange import Answer, __version__
from dues_client._model import UNSET, Model, Money, WebhookEvent
from dues_client._sync.client import Dues
from dues_client._sync.download import Download
from dues_client._sync.paging import Page, Paged
from dues_client._sync.started import Started
from dues_client.errors import DuesError

__all__ = [
    "UNSET",
    "Answer",
    "AsyncDownload",
    "AsyncDues",
    "AsyncPage",
    "AsyncPaged",
    "AsyncStarted",
    "Download",
    "Dues",
    "DuesError",
    "Model",
    "Money",
    "Page",
    "Paged",
    "Started",
    "WebhookEvent",
    "__version__",
    "errors",
    "models",
    "webhooks",
]
