"""Proving an e-mail address, and a new password where the old one is lost: by HTTP, worker and mail."""

import re
from collections import Counter
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import pytest
from flask import Flask

from dues.accounts import unverified
from tests.factory import Factory
from tests.payments.conftest import Work, work
from tests.rows.people import PASSWORD
from tests.servers import Mailbox, Servers

__all__ = ["work"]

VERIFY, VERIFIED = "/v1/me/email-verifications", "/v1/email-verifications/confirmations"
RESET, CONFIRM = "/v1/password-resets", "/v1/password-resets/confirmations"
BAD = {"code": "invalid_code", "detail": "is unknown, used already, or expired", "pointer": "#/code"}
NEW_PASSWORD = "another good passphrase"


@pytest.fixture
def user(make: Factory):
    # A name that would do harm in a mail to somebody else's address.
    return make.user(email="ada@example.com", name="Log in at https://evil.example", email_verified_at=None)


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body
    return str(body.get_content())


def code_in(mail: EmailMessage, purpose: str) -> str:
    """The code of the link, the same in both parts."""
    codes = set()
    for kind in ("plain", "html"):
        body = mail.get_body((kind,))
        assert body
        codes |= set(re.findall(rf"http://127\.0\.0\.1:8000/account#{purpose}=([\w-]{{43}})", body.get_content()))
    assert len(codes) == 1
    return str(codes.pop())


class TestVerifying:
    def ask(self, client, auth: dict[str, str]) -> Any:
        return client.post(VERIFY, headers=auth)

    def test_a_link_is_mailed_that_works_once(self, client, make: Factory, user, work: Work, mailbox: Mailbox):
        auth = make.auth(user)
        answer = self.ask(client, auth)
        assert (answer.status_code, answer.json) == (202, {"email": "ada@example.com"})
        work.drain()
        assert client.get(answer.headers["Location"], headers=auth).json["status"] == "succeeded"
        (mail,) = mailbox.mails()
        assert (mail["To"], mail["Subject"]) == ("ada@example.com", "Confirm your e-mail address")
        code = code_in(mail, "verify-email")
        assert client.get("/v1/me", headers=auth).json["email_verified"] is False
        # By whoever reads the mail: no token is needed.
        assert client.post(VERIFIED, json={"code": code}).status_code == 204
        me = client.get("/v1/me", headers=auth).json
        assert (me["email_verified"], me["version"]) == (True, 2)
        again = client.post(VERIFIED, json={"code": code})
        assert (again.status_code, again.json["errors"]) == (422, [BAD])

    def test_nothing_that_somebody_typed_goes_to_an_address_that_may_be_anothers(
        self, client, make: Factory, user, work: Work, mailbox: Mailbox
    ):
        self.ask(client, make.auth(user))
        client.post(RESET, json={"email": user.email})
        work.drain()
        assert len(mailbox.mails()) == 2
        for mail in mailbox.mails():
            assert b"evil" not in mail.as_bytes()

    def test_the_code_is_kept_nowhere(self, client, make: Factory, user, work: Work, mailbox: Mailbox):
        self.ask(client, make.auth(user))
        client.post(RESET, json={"email": user.email})
        work.drain()
        mails = {mail["Subject"]: mail for mail in mailbox.mails()}
        codes = [
            code_in(mails["Confirm your e-mail address"], "verify-email"),
            code_in(mails["Choose a new password"], "reset-password"),
        ]
        kept = "".join(
            str([{name: bytes(v) if isinstance(v, memoryview) else v for name, v in vars(row).items()} for row in rows])
            for rows in (make.rows(f"select * from {table}") for table in ("account_codes", "email_sends", "jobs"))
        )
        assert not [code for code in codes if code in kept]
        assert make.value("select count(*) from email_sends where state = 'sent' and raw = ''") == 2

    def test_what_is_verified_needs_no_link(self, client, make: Factory):
        answer = self.ask(client, make.auth(make.user()))
        assert (answer.status_code, answer.json["code"]) == (409, "email_verified")

    def test_one_reader_gets_20_a_day_under_whatever_tag(self, client, make: Factory):
        statuses = []
        for tag in range(5):
            auth = make.auth(make.user(email=f"ada+{tag}@example.com", email_verified_at=None))
            statuses += [self.ask(client, auth).status_code for _ in range(5)]
        assert statuses == [202] * 20 + [429] * 5

    def test_one_address_gets_five_an_hour(self, client, make: Factory, user):
        statuses = [self.ask(client, make.auth(user)).status_code for _ in range(6)]
        assert statuses == [202] * 5 + [429]
        assert self.ask(client, make.auth(make.user(email_verified_at=None))).status_code == 202

    @pytest.mark.parametrize(
        "change", ["expires_at = now()", "purpose = 'reset-password'", "email = 'other@x.example'"]
    )
    def test_a_code_that_does_not_fit_is_refused(self, client, make: Factory, user, change: str):
        code = make.code(user, "verify-email")
        make.rows(f"update account_codes set {change}")
        assert client.post(VERIFIED, json={"code": code}).json["errors"] == [BAD]
        assert make.value("select email_verified_at is null from users")

    @pytest.mark.parametrize("code", ["", "x", "x" * 101, "x" * 43, 7, None])
    def test_what_is_no_code_is_refused(self, client, code: object):
        assert client.post(VERIFIED, json={"code": code}).status_code == 422

    def test_a_change_of_e_mail_ends_codes_and_tells_the_old_address(
        self, client, make: Factory, user, work: Work, mailbox: Mailbox
    ):
        code, auth = make.code(user, "verify-email"), make.auth(user)
        body = {"email": "new@example.com", "current_password": PASSWORD}
        assert client.patch("/v1/me", json=body, headers=auth).json["email_verified"] is False
        assert client.post(VERIFIED, json={"code": code}).status_code == 422
        work.drain()
        (mail,) = mailbox.mails()
        assert (mail["To"], mail["Subject"]) == ("ada@example.com", "The e-mail address of your account was changed")
        assert "new@example.com" not in text_of(mail)

    def test_whoever_changes_e_mail_and_password_at_once_does_so_before_the_eyes_of_the_old_address(
        self, client, make: Factory, user, work: Work, mailbox: Mailbox
    ):
        body = {"email": "new@example.com", "password": NEW_PASSWORD, "current_password": PASSWORD}
        assert client.patch("/v1/me", json=body, headers=make.auth(user)).status_code == 200
        work.drain()
        assert sorted((mail["To"], mail["Subject"]) for mail in mailbox.mails()) == [
            ("ada@example.com", "The e-mail address of your account was changed"),
            ("ada@example.com", "The password of your account was changed"),
        ]

    def test_the_link_may_lead_to_a_front_end(
        self, servers: Servers, client, app: Flask, make: Factory, user, work: Work, mailbox: Mailbox
    ):
        url = "https://club.example/{purpose}?code={code}"
        settings, app.extensions["settings"] = app.extensions["settings"], servers.settings(account_link_url=url)
        try:
            self.ask(client, make.auth(user))
            work.drain()
        finally:
            app.extensions["settings"] = settings
        (mail,) = mailbox.mails()
        assert re.search(r"https://club\.example/verify-email\?code=[\w-]{43}\s", text_of(mail))

    def test_an_attempt_that_is_repeated_mails_the_same_code(
        self, client, make: Factory, user, work: Work, mailbox: Mailbox
    ):
        mailbox.behave(next=[{"at": "dot", "do": "451"}])
        self.ask(client, make.auth(user))
        work.drain()
        assert mailbox.mails() == []
        work.hurry()
        (mail,) = mailbox.mails()
        assert make.value("select count(*) from account_codes") == 1
        assert client.post(VERIFIED, json={"code": code_in(mail, "verify-email")}).status_code == 204


class TestResetting:
    def log_in(self, client, password: str):
        return client.post("/v1/tokens", json={"email": "ada@example.com", "password": password}).status_code

    def test_a_new_password_by_mail(self, client, make: Factory, user, work: Work, mailbox: Mailbox):
        auth, bystander = make.auth(user), make.auth(make.user())
        answer = client.post(RESET, json={"email": "ADA@example.com"})
        assert (answer.status_code, answer.json) == (202, {"email": "ADA@example.com"})
        work.drain()
        (mail,) = mailbox.mails()
        assert (mail["To"], mail["Subject"]) == ("ada@example.com", "Choose a new password")
        body = {"code": code_in(mail, "reset-password"), "password": NEW_PASSWORD}
        assert client.post(CONFIRM, json=body).status_code == 204
        assert client.get("/v1/me", headers=auth).status_code == 401
        assert client.get("/v1/me", headers=bystander).status_code == 200
        assert [self.log_in(client, password) for password in (PASSWORD, NEW_PASSWORD)] == [401, 201]
        # Whoever reads the mail has the address.
        assert make.value("select email_verified_at is not null from users where email = 'ada@example.com'")
        assert client.post(CONFIRM, json=body).json["errors"] == [BAD]
        work.drain()
        assert [mail["Subject"] for mail in mailbox.mails()][1:] == ["The password of your account was changed"]

    def test_an_address_without_an_account_is_answered_alike_and_gets_no_mail(
        self, client, make: Factory, user, work: Work, mailbox: Mailbox, queries
    ):
        with queries() as known:
            there = client.post(RESET, json={"email": "ada@example.com"})
        with queries() as unknown:
            absent = client.post(RESET, json={"email": "bob@example.com"})
        assert there.status_code == absent.status_code == 202
        volatile = {"X-Request-Id", "X-Request-Duration", "Server-Timing", "Date"}
        assert [h for h in there.headers if h[0] not in volatile] == [h for h in absent.headers if h[0] not in volatile]
        assert len(known) == len(unknown)
        make.rows("update users set deleted_at = now() where email = 'ada@example.com'")
        work.drain()
        assert mailbox.mails() == []
        assert make.value("select count(*) from jobs where status = 'succeeded'") == 2

    def test_one_address_gets_five_an_hour_whether_or_not_it_has_an_account(self, client, user):
        for email in ("ada@example.com", "nobody@example.com"):
            statuses = [client.post(RESET, json={"email": email}).status_code for _ in range(6)]
            assert statuses == [202] * 5 + [429]

    def test_it_ends_a_wait_for_too_many_wrong_passwords(self, client, make: Factory, user):
        for _ in range(11):
            last = self.log_in(client, "a wrong guess")
        assert last == 429
        body = {"code": make.code(user, "reset-password"), "password": NEW_PASSWORD}
        assert client.post(CONFIRM, json=body).status_code == 204
        assert self.log_in(client, NEW_PASSWORD) == 201

    @pytest.mark.parametrize("password", ["short", "password1", "ada@example.com"])
    def test_a_weak_password_uses_up_no_code(self, client, make: Factory, user, password: str):
        code = make.code(user, "reset-password")
        answer = client.post(CONFIRM, json={"code": code, "password": password})
        assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "#/password")
        assert client.post(CONFIRM, json={"code": code, "password": NEW_PASSWORD}).status_code == 204

    def test_one_code_ends_all_others(self, client, make: Factory, user):
        first, second = make.code(user, "reset-password"), make.code(user, "reset-password")
        assert client.post(CONFIRM, json={"code": first, "password": NEW_PASSWORD}).status_code == 204
        assert client.post(CONFIRM, json={"code": second, "password": PASSWORD}).status_code == 422

    def test_sent_twice_at_once_it_works_once(self, app: Flask, make: Factory, user, contention):
        body = {"code": make.code(user, "reset-password"), "password": NEW_PASSWORD}

        def confirm() -> int:
            return app.test_client().post(CONFIRM, json=body).status_code

        with contention.held("select 1 from users where id = %(id)s for update", id=user.id):
            answers = contention.start(confirm, confirm)
        assert sorted(answer.result() for answer in answers) == [204, 422]


class TestMailsToAnAddressThatMayBeAnothers:
    """Whoever has an account with somebody else's address could have that person written to by what they do with it."""

    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("_NEWS", "_RESETS"):
            monkeypatch.setattr(unverified, name, replace(getattr(unverified, name), most=3))

    def move(self, client, auth: dict[str, str], *emails: str) -> None:
        for email in emails:
            body = {"email": email, "current_password": PASSWORD}
            assert client.patch("/v1/me", json=body, headers=auth).status_code == 200

    def test_changes_of_its_account_are_counted(self, client, make: Factory, user, work: Work, mailbox: Mailbox):
        self.move(client, make.auth(user), *["elsewhere@example.com", "ada@example.com"] * 3)
        client.patch("/v1/me", json={"password": NEW_PASSWORD, "current_password": PASSWORD}, headers=make.auth(user))
        work.drain()
        assert Counter(str(mail["To"]) for mail in mailbox.mails()) == {
            "ada@example.com": 3,
            "elsewhere@example.com": 3,
        }

    def test_a_verified_one_is_told_each_time(self, client, make: Factory, work: Work, mailbox: Mailbox):
        owner = make.user(email="owner@example.com")
        for _ in range(4):
            make.rows("update users set email = 'owner@example.com', email_normal = 'owner@example.com'")
            make.rows("update users set email_verified_at = now()")
            self.move(client, make.auth(owner), "elsewhere@example.com")
        work.drain()
        assert [mail["To"] for mail in mailbox.mails()] == ["owner@example.com"] * 4

    def test_links_for_a_new_password_are_counted_apart(
        self, client, make: Factory, user, work: Work, mailbox: Mailbox
    ):
        for _ in range(5):
            assert client.post(RESET, json={"email": "ada@example.com"}).status_code == 202
        work.drain()
        self.move(client, make.auth(user), "elsewhere@example.com")
        work.drain()
        subjects = Counter(str(mail["Subject"]) for mail in mailbox.mails())
        assert list(subjects.values()) == [3, 1]
        assert list(subjects) == ["Choose a new password", "The e-mail address of your account was changed"]
