"""What mail programs, their users and mail providers send, to a web server on its event loop."""

import http.client
import time
from contextlib import closing

import ujson
from flask.testing import FlaskClient

from dues.mailings.unsubscribing import NO_MAILING, Reader, unsubscribe_url, write_token
from dues.webhooks.signing import signature
from tests.factory import Factory
from tests.servers import Servers
from tests.webserver import WebServer

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBwcm92aWRlciwgMzIgYnl0ZXM="


def ask(web: WebServer, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str, str]:
    """The status, the type and the text of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)) as connection:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()


def test_a_link_and_a_report(servers: Servers, make: Factory, client: FlaskClient) -> None:
    store, reader = make.store(), make.user()
    with client.application.app_context():
        token = unsubscribe_url(write_token(Reader(store.id, reader.id, NO_MAILING))).rpartition("=")[2]
    path, html = f"/v1/unsubscribe?token={token}", "text/html; charset=utf-8"
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    with WebServer(servers, threads=2, MAIL_EVENTS_SECRET=SECRET) as web:
        status, kind, text = ask(web, "GET", path)
        assert (status, kind, "Unsubscribe</button>" in text) == (200, html, True)
        assert ask(web, "HEAD", path)[0] == 200
        assert make.value("select count(*) from mail_suppressions") == 0
        status, kind, text = ask(web, "POST", path, b"List-Unsubscribe=One-Click", **form)
        assert (status, kind, "You are unsubscribed" in text) == (200, html, True)
        assert make.value("select count(*) from mail_suppressions") == 1
        assert ask(web, "POST", path, b"again=yes", **form)[0] == 200
        assert make.value("select count(*) from mail_suppressions") == 0
        assert ask(web, "POST", f"{path[:-1]}", b"List-Unsubscribe=One-Click", **form)[0] == 404

        body, moment = ujson.dumps({"events": [{"type": "bounced", "message_id": "x"}]}).encode(), str(int(time.time()))
        signed = {
            "Content_Type": "application/json",
            "webhook_id": "1",
            "webhook_timestamp": moment,
            "webhook_signature": signature(SECRET, "1", moment, body),
        }
        assert ask(web, "POST", "/v1/mail-events", body, **signed)[0] == 204
        assert ask(web, "POST", "/v1/mail-events", body + b" ", **signed)[0] == 401
