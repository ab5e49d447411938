"""Asking a provider whether it accepted a mail."""

from pathlib import Path

import pytest

from dues.mail.provider import NoAnswer, was_accepted
from local.ports import free_port
from tests.mail.conftest import PostOffice
from tests.servers import Mailbox, Servers


def test_a_provider_knows_what_it_accepted(office: PostOffice, servers: Servers, mailbox: Mailbox):
    email_id = office.queue()
    office.send(email_id)
    ask = servers.mail.lookup_url
    assert was_accepted(ask, f"{email_id}@dues.invalid", timeout_s=10)
    assert was_accepted(f"{ask}/", f"{email_id}@dues.invalid", timeout_s=10)
    assert not was_accepted(ask, "another/../one?@dues.invalid", timeout_s=10)


@pytest.mark.parametrize("status", [200, 204, 301, 401, 404, 410, 500])
def test_only_a_plain_yes_or_no_is_an_answer(servers: Servers, mailbox: Mailbox, status: int):
    mailbox.behave(lookup=status)
    if status in (200, 404):
        assert was_accepted(servers.mail.lookup_url, "x@dues.invalid", timeout_s=10) == (status == 200)
        return
    with pytest.raises(NoAnswer, match=str(status)):
        was_accepted(servers.mail.lookup_url, "x@dues.invalid", timeout_s=10)


def test_a_provider_out_of_reach_gives_no_answer(tmp_path: Path):
    with pytest.raises(NoAnswer) as refused:
        was_accepted(f"http://ada:secret@127.0.0.1:{free_port()}/messages", "x@dues.invalid", timeout_s=10)
    assert "secret" not in str(refused.value)
