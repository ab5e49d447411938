"""A test that fails tells what it was refused."""

from flask.testing import FlaskClient

from tests import refusals


def test_what_was_refused_is_remembered_for_the_report(client: FlaskClient) -> None:
    for _ in range(refusals.MOST_SHOWN):
        client.get("/healthz")
        client.get("/v1/me?x=1")
    assert len(refusals.last) == refusals.MOST_SHOWN
    assert refusals.last[-1].startswith("GET /v1/me?x=1 401")
    assert '"code":"unauthenticated"' in refusals.last[-1]
