"""Settings: read from the environment, checked all at once, and described in files that are written from them."""

from pathlib import Path

import msgspec
import pytest

from config import ConfigError, Settings, load_settings, lookalikes
from config_pages import env_example, settings_page
from urls import address, read_redis_url, sqlalchemy_url

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parent.parent
LEAST = {"DATABASE_URL": "postgresql://u@h/d", "REDIS_URL": "redis://h", "SECRET_KEY": "k" * 32}


def test_the_page_of_settings_is_up_to_date():
    assert (ROOT / "docs/settings.md").read_text() == settings_page(), "run: python -m config_pages > docs/settings.md"


def test_the_example_environment_is_up_to_date():
    assert (ROOT / ".env.example").read_text() == env_example(), "run: python -m config_pages env > .env.example"


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
        ("WEB_THREADS", "0", "is not a whole number at least 1 and at most 1000: threads"),
        ("SMTP_TIMEOUT_S", "0", "is not a number above 0 and at most 86400: longest wait"),
        ("SECRET_KEY", "k" * 32 + "\n", "has a blank at an end, or a line break in it: signs"),
        ("SECRET_KEY", " " * 32, "has a blank at an end, or a line break in it: signs"),
        ("DATABASE_URL", "postgresql://u:hunter2@h/d\n", "has a blank at an end, or a line break in it: PostgreSQL"),
        ("MAIL_FROM", "nobody", "does not read as it should: sender"),
        ("MAIL_FROM", "Dues <a@b>\nBcc: c@d", "has a blank at an end, or a line break in it: sender"),
        ("SMTP_URL", "smtp://u:hunter2@h:mail", "does not read as it should: mail server"),
        ("SMTP_URL", "smtp://u:hunter2@:25", "does not read as it should: mail server"),
        ("SMTP_URL", "smtp://u:hunter2@h i", "does not read as it should: mail server"),
        ("PUBLIC_URL", "https://club.example:99999", "does not read as it should: where clients"),
        ("ACCOUNT_LINK_URL", "https://club.example/{code}/{name}", "does not read as it should: what links"),
        ("HOST", "http://0.0.0.0", "does not read as it should: address"),
        ("RATE_LIMIT", "600/9999999999", "does not read as it should: requests"),
        ("WORKER_QUEUES", "critical:100000", "does not read as it should: worker processes"),
        ("KEEP_JOBS_DAYS", "1000000000", "is not a whole number at least 1 and at most 36500: days"),
        ("LOG_LEVEL", "loud", "is not one of debug, error, info, warning: least severe"),
        ("RATE_LIMIT", "lots", "does not read as it should: requests per seconds"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d", "does not read as it should: PostgreSQL"),
        ("DATABASE_URL", "postgresql://u:hunter2@h/d?sslmod=require", "does not read as it should: PostgreSQL"),
        ("DATABASE_URL", "postgresql://u:p@hunter2@h/d", "does not read as it should: PostgreSQL"),
        ("DATABASE_URL", "postgresql://u:p/hunter2@h/d", "does not read as it should: PostgreSQL"),
        ("DATABASE_URL", "postgresql://u:p%hunter2@h/d", "does not read as it should: PostgreSQL"),
        ("DATABASE_URL", "postgresql://u:hunter2@h:x/d", "does not read as it should: PostgreSQL"),
        ("DATABASE_URL", "postgresql://u:hunter2@h:5432,i:99999/d", "does not read as it should: PostgreSQL"),
        ("DATABASE_URL", "postgresql://u:hunter2@h/d?sslmode=on", "does not read as it should: PostgreSQL"),
        ("DATABASE_URL", "postgresql://u@h/d?target_session_attrs=master", "does not read as it should: PostgreSQL"),
        ("DATABASE_REPLICA_URLS", "postgresql://u@a/d http://b", "does not read as it should: standbys"),
        ("DATABASE_REPLICA_URLS", "postgresql://u@a/d?hots=b", "does not read as it should: standbys"),
        ("DATABASE_REPLICA_URLS", "postgresql://u@a/d,postgresql://u@b/d", "does not read as it should: standbys"),
        ("REDIS_URL", "localhost:6379", "does not read as it should: Redis"),
        ("CACHE_REDIS_URL", "redis://h:port", "does not read as it should: one Redis node"),
        ("FORWARDED_ALLOW_IPS", "gateway", "does not read as it should: proxies"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.0/33", "does not read as it should: proxies"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1 10.0.0.2", "does not read as it should: proxies"),
        ("PUBLIC_URL", "api.club.example", "does not read as it should: where clients"),
        ("DB_STATEMENT_TIMEOUT_S", "0", "is not a number at least 0.001 and at most 86400: longest"),
        ("DB_POOL_TIMEOUT_S", "nan", "is not a number above 0 and at most 86400: how long"),
        ("SLOW_REQUEST_S", "inf", "is not a number at least 0 and at most 86400: a request"),
        ("SECRET_KEY", "short", "is shorter than 32 characters: signs cursors"),
    ],
)
def test_what_is_wrong_is_said_in_words(name: str, value: str, words: str):
    with pytest.raises(ConfigError) as raised:
        load_settings({**LEAST, name: value})
    assert str(raised.value).startswith(f"{name} {words}")
    assert "hunter2" not in str(raised.value)


FIELDS = {field.name.upper(): field for field in msgspec.structs.fields(Settings)}
# What people and the programs that write their files get wrong, with a secret in each that has room for one.
MISTAKES = {
    "blank": "   ",
    "a line break after it": "{right}\n",
    "a blank before it": " {right}",
    "quotes": '"{right}"',
    "a comment": "{right}  # hunter2",
    "a word": "hunter2",
    "negative": "-1",
    "huge": "9" * 30,
    "infinite": "1e999",
    "no number": "nan",
    "not ASCII": "hunter2\u0661",
    "another type": '{{"hunter2": 1}}',
}
# Which of them cannot be told from what is meant: a folder, a key, a token and a host's name may be nearly anything.
_NAME = {"a word", "negative", "huge", "infinite", "no number"}
_WORD = {*_NAME, "quotes"}
_TEXT = {*_WORD, "a comment", "not ASCII", "another type"}
_LINES = {"blank", "a line break after it", "a blank before it"}
TAKEN = {
    **dict.fromkeys(("DUES_HOME", "FILES_DIR"), _TEXT),
    **dict.fromkeys(("CACHE_KEY_PREFIX", "METRICS_TOKEN", "PURGE_TOKEN"), _WORD),
    **dict.fromkeys(("HOST", "WEBHOOK_ALLOWED_HOSTS"), _NAME),
    "SECRET_KEY": {"quotes", "a comment"},
    "CELLS_KEY": {"quotes"},
    # Lists, on several lines if need be.
    "DATABASE_REPLICA_URLS": _LINES,
    "CELLS": _LINES,
}
RIGHT = {
    **LEAST,
    "DATABASE_REPLICA_URLS": LEAST["DATABASE_URL"],
    "CACHE_REDIS_URL": LEAST["REDIS_URL"],
    "CELLS": "a=http://h:8000",
    "CELL": "a=http://h:8000",
    "CELLS_KEY": "k" * 32,
}


@pytest.mark.parametrize("name", FIELDS)
def test_each_mistake_is_one_line_that_names_the_setting(name: str):
    taken, value = set(), RIGHT.get(name) or str(FIELDS[name].default) or "hunter2"
    for mistake, text in MISTAKES.items():
        try:
            load_settings({**LEAST, name: text.format(right=value)})
        except ConfigError as refused:
            said = str(refused)
            assert said.startswith(f"{name} "), mistake
            assert "\n" not in said, mistake
            assert "hunter2" not in said, mistake
        else:
            taken.add(mistake)
    assert taken == TAKEN.get(name, set())


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("DATABSE_URL", "DATABASE_URL"),
        ("DUES_PUBLIC_URL", "PUBLIC_URL"),
        ("SMTP_TIMEOUT", "SMTP_TIMEOUT_S"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("KEEP_JOB_DAYS", "KEEP_JOBS_DAYS"),
        ("worker_queues", "WORKER_QUEUES"),
    ],
)
def test_a_name_that_is_nearly_a_setting_is_told(variable: str, meant: str):
    env = {**LEAST, variable: "hunter2"}
    env.pop(meant, None)
    assert list(lookalikes(env)) == [f"{variable} is no setting: {meant} is"]
    # It may be somebody else's where the setting is there.
    assert list(lookalikes({**env, meant: "x"})) == []


def test_what_others_call_theirs_is_nobodys_business():
    names = "HOME HOSTNAME PATH PWD LANG PYTHONPATH VIRTUAL_ENV POSTGRES_PASSWORD REDIS_PORT DUES_PORT_8000_TCP"
    names += " KUBERNETES_PORT MAIL SHELL TERM OTEL_SERVICE_NAME XDG_RUNTIME_DIR GUNICORN_CMD_ARGS PIP_DEFAULT_TIMEOUT"
    assert list(lookalikes(dict.fromkeys(names.split(), "x"))) == []


def test_a_setting_that_is_missing_is_told_with_what_may_be_it():
    with pytest.raises(ConfigError) as raised:
        load_settings({**LEAST, "DATABASE_URL": "", "DATABSE_URL": "postgresql://u:hunter2@h/d"})
    first, second = str(raised.value).splitlines()
    assert first.startswith("DATABASE_URL is not set: ")
    assert second == "DATABSE_URL is no setting: DATABASE_URL is"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://h", ("", "h", 6379, False, "", "", 0)),
        ("valkey://h:1/2", ("", "h", 1, False, "", "", 2)),
        ("rediss://u:p%2Fw@h?db=3", ("", "h", 6379, True, "u", "p/w", 3)),
        ("valkeys://:p@[::1]:5/", ("", "::1", 5, True, "", "p", 0)),
        ("unix:///run/redis.sock?db=4", ("/run/redis.sock", "localhost", 6379, False, "", "", 4)),
    ],
)
def test_where_a_redis_is(url: str, found: tuple[object, ...]):
    assert read_redis_url(url) == found


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "redis://h:0",
        "redis://h:99999",
        "redis://h:hunter2",
        "redis://u:hun/ter2@h",
        "redis://hun/ter2@h",
        "redis://:12?hunter2@h",
        "redis://:12#hunter2@h",
        "redis://h/hunter2",
        "redis://h/-1",
        "redis://h/\u0661",
        "redis://h?db=1&hunter2=1",
        "rediss://h?ssl_cert_reqs=none",
        "redis://[hunter2",
        "unix://",
    ],
)
def test_what_is_no_redis_is_not_shown(url: str):
    with pytest.raises(ValueError, match="this is no") as refused:
        read_redis_url(url)
    assert "hunter2" not in str(refused.value)
    assert "ter2" not in str(refused.value)


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


def test_a_folder_of_fonts_is_the_same_wherever_it_is_read_from(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "fonts").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_settings({**LEAST, "FONTS_DIR": "fonts"}).fonts_dir == str(tmp_path / "fonts")

    # Whoever tests may be root, who reads everything.
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ConfigError, match="FONTS_DIR"):
        load_settings({**LEAST, "FONTS_DIR": "fonts"})


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_database_url_names_the_driver_that_is_installed(scheme):
    assert sqlalchemy_url(f"{scheme}://u:p@h:5/d") == "postgresql+psycopg2://u:p@h:5/d"
