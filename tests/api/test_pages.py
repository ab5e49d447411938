"""The pages that people open: each from here alone, and framed by nobody."""

import re

import pytest

PAGES = ("/docs", "/docs/", "/account", "/account/")


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
    assert "persistAuthorization: false" in client.get("/assets/docs.js").text
