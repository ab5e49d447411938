"""The pages that people open: each from here alone, and framed by nobody."""

import re
from hashlib import blake2b

import pytest
from flask.testing import FlaskClient

PAGES = ("/docs", "/docs/", "/account", "/account/")


def assets_of(client: FlaskClient, page: str) -> list[str]:
    """The paths of a page's assets."""
    return re.findall(r'(?:src|href)="(/assets/[^"]+)"', client.get(page).text)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_and_its_assets_come_from_here(client, path: str):
    page = client.get(path, headers={"Host": "evil.example"})
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "evil" not in page.text + str(page.headers)
    assert not re.search(r"https?://|<script>|onclick|style=", page.text)
    linked = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert len(linked) >= 2
    for asset in linked:
        with client.get(asset) as answer:
            assert (asset, answer.status_code) == (asset, 200)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_nothing_from_elsewhere_and_is_framed_by_nobody(client, path: str):
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_a_page_is_revalidated(client):
    first = client.get("/docs")
    again = client.get("/docs", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert first.headers["Cache-Control"] == "public, no-cache"


@pytest.mark.parametrize(("page", "count"), [("/docs", 5), ("/account", 2)])
def test_an_asset_is_kept_for_ever_under_the_hash_of_its_content(client: FlaskClient, page: str, count: int):
    assets = assets_of(client, page)
    assert len(assets) == count
    for path in assets:
        answer = client.get(path)
        name, told, ending = path.removeprefix("/assets/").rsplit(".", 2)
        assert told == blake2b(answer.data, digest_size=12).hexdigest()
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        # What others are given as well names nobody's request and nobody's limit.
        assert not {"X-Request-Id", "X-Request-Duration", "RateLimit"} & {*answer.headers.keys()}
        # One of another content is another asset, and there is none without a hash.
        for other in (f"{name}.{'0' * 24}.{ending}", f"{name}.{ending}"):
            refused = client.get(f"/assets/{other}")
            assert (refused.status_code, refused.headers["Cache-Control"]) == (404, "no-store")


@pytest.mark.parametrize("name", ["nothing.js", "..%2fapp.py", "../app.py", ".", "__init__.py"])
def test_nothing_else_is_an_asset(client, name: str):
    assert client.get(f"/assets/{name}").status_code == 404


@pytest.mark.parametrize(
    ("accept", "status"),
    [("text/html,application/xhtml+xml,*/*;q=0.8", 302), ("*/*", 200), ("application/json", 200), (None, 200)],
)
def test_the_root_leads_on(client, accept: str | None, status: int):
    answer = client.get("/", headers={"Accept": accept} if accept else {})
    assert answer.status_code == status
    assert "Accept" in answer.headers["Vary"].split(", ")
    if status == 302:
        assert answer.headers["Location"] == "/docs"
    else:
        assert answer.json["links"] == {
            "docs": "/docs",
            "openapi": "/openapi.json",
            "health": "/healthz",
            "ready": "/readyz",
        }


def test_a_token_that_is_typed_in_is_not_kept(client):
    (script,) = [
        path for path in assets_of(client, "/docs") if path.startswith("/assets/docs.") and path.endswith("js")
    ]
    assert "persistAuthorization: false" in client.get(script).text
