"""Settings: read from the environment, checked all at once, and described in files that are written from them."""

from pathlib import Path

import pytest

from config import ConfigError, Settings, address, env_example, load_settings, settings_page, sqlalchemy_url

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parent.parent
LEAST = {"DATABASE_URL": "postgresql://u@h/d", "REDIS_URL": "redis://h", "SECRET_KEY": "k" * 32}


def test_the_page_of_settings_is_up_to_date():
    assert (ROOT / "docs/settings.md").read_text() == settings_page(), "run: python -m config > docs/settings.md"


def test_the_example_environment_is_up_to_date():
    assert (ROOT / ".env.example").read_text() == env_example(), "run: python -m config env > .env.example"


def test_the_example_environment_holds_the_defaults():
    lines = [line.removeprefix("# ") for line in env_example().splitlines()]
    pairs = [line.partition("=") for line in lines if line.partition("=")[0].isupper()]
    values = {name: value.strip("'") for name, _, value in pairs}
    assert len(values) == len(Settings.__struct_fields__)
    assert load_settings({**values, **LEAST}) == load_settings(LEAST)


def test_all_that_is_wrong_is_said_at_once_and_no_value_is_shown():
    with pytest.raises(ConfigError) as raised:
        load_settings({"REDIS_URL": "redis://h", "SECRET_KEY": "hunter2", "PORT": "99999", "RATE_LIMIT": "lots"})
    message = str(raised.value)
    assert [line.split()[0] for line in message.splitlines()] == ["DATABASE_URL", "SECRET_KEY", "PORT", "RATE_LIMIT"]
    assert "hunter2" not in message
    assert "lots" not in message


def test_an_empty_variable_means_the_default():
    assert load_settings({**LEAST, "PORT": ""}).port == 8000


def test_numbers_and_switches_are_read_from_text():
    found = load_settings({**LEAST, "PORT": "0", "DB_PREPARE": "false", "SLOW_REQUEST_S": "0.25"})
    assert (found.port, found.db_prepare, found.slow_request_s) == (0, False, 0.25)


@pytest.mark.parametrize(
    ("word", "is_on"), [("on", True), ("Yes", True), ("1", True), ("off", False), ("NO", False), ("false", False)]
)
def test_a_switch_is_written_as_people_write_it(word: str, is_on: bool):
    assert load_settings({**LEAST, "DB_PREPARE": word}).db_prepare is is_on


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DB_PREPARE", "perhaps", "is neither on nor off: prepare hot statements"),
        ("PORT", "eighty", "is not a whole number at least 0 and at most 65535: port"),
        ("WEB_THREADS", "0", "is not a whole number at least 1: threads"),
        ("SMTP_TIMEOUT_S", "0", "is not a number above 0: longest wait"),
        ("LOG_LEVEL", "loud", "is not one of debug, error, info, warning: least severe"),
        ("RATE_LIMIT", "lots", "does not read as it should: requests per seconds"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d", "does not read as it should: PostgreSQL"),
        ("DATABASE_URL", "postgresql://u:hunter2@h/d?sslmod=require", "does not read as it should: PostgreSQL"),
        ("DATABASE_URL", "postgresql://u:p@hunter2@h/d", "does not read as it should: PostgreSQL"),
        ("DATABASE_URL", "postgresql://u:p/hunter2@h/d", "does not read as it should: PostgreSQL"),
        ("DATABASE_URL", "postgresql://u:p%hunter2@h/d", "does not read as it should: PostgreSQL"),
        ("DATABASE_REPLICA_URLS", "postgresql://u@a/d http://b", "does not read as it should: standbys"),
        ("DATABASE_REPLICA_URLS", "postgresql://u@a/d?hots=b", "does not read as it should: standbys"),
        ("DATABASE_REPLICA_URLS", "postgresql://u@a/d,postgresql://u@b/d", "does not read as it should: standbys"),
        ("REDIS_URL", "localhost:6379", "does not read as it should: Redis"),
        ("CACHE_REDIS_URL", "redis://h:port", "does not read as it should: one Redis node"),
        ("FORWARDED_ALLOW_IPS", "gateway", "does not read as it should: proxies"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.0/33", "does not read as it should: proxies"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1 10.0.0.2", "does not read as it should: proxies"),
        ("PUBLIC_URL", "api.club.example", "does not read as it should: where clients"),
        ("DB_STATEMENT_TIMEOUT_S", "0", "is not a number at least 0.001: longest"),
        ("DB_POOL_TIMEOUT_S", "nan", "is not a number above 0: how long"),
        ("SLOW_REQUEST_S", "inf", "is not a number at least 0: a request"),
        ("SECRET_KEY", "short", "is shorter than 32 characters: signs cursors"),
    ],
)
def test_what_is_wrong_is_said_in_words(name: str, value: str, words: str):
    with pytest.raises(ConfigError) as raised:
        load_settings({**LEAST, name: value})
    assert str(raised.value).startswith(f"{name} {words}")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("localhost", "localhost:80"),
        ("::", "[::]:80"),
        ("::1", "[::1]:80"),
        ("[fe80::1]", "[fe80::1]:80"),
    ],
)
def test_where_the_web_server_listens(host: str, found: str):
    assert address(host, 80) == found


def test_what_follows_from_others():
    found = load_settings({**LEAST, "DUES_HOME": "/srv/dues", "PUBLIC_URL": "https://pay.example/"})
    assert found.cache_redis_url == "redis://h"
    assert found.files_dir == "/srv/dues/files"
    assert found.public_url == "https://pay.example"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_database_url_names_the_driver_that_is_installed(scheme):
    assert sqlalchemy_url(f"{scheme}://u:p@h:5/d") == "postgresql+psycopg2://u:p@h:5/d"
