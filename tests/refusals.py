"""The refusals that a test was answered last, which stand in its report where it fails: a status alone tells little."""

from collections import deque
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

MOST_SHOWN, _MOST_CHARACTERS = 5, 2000
last: deque[str] = deque(maxlen=MOST_SHOWN)


class Client(FlaskClient):
    """Flask's client, which remembers the problem documents that it was answered."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        answer = super().open(*args, **kwargs)
        if answer.status_code >= 400 and answer.mimetype == "application/problem+json":
            asked = answer.request
            # It may be compressed.
            body = answer.get_data().decode(errors="replace")[:_MOST_CHARACTERS]
            last.append(f"{asked.method} {asked.full_path} {answer.status}\n{body}")
        return answer


def tell(report: pytest.TestReport) -> None:
    """Put the refusals of a test into its report, if it has failed, and forget them."""
    if report.when == "call":
        if report.failed and last:
            report.sections.append(("Refusals, the last of them last", "\n\n".join(last)))
        last.clear()
