"""Every setting of Dues, once: name, type, default and what it means.

A setting is read from the environment variable of the same name in capitals and checked at start;
all that is wrong is reported together. Two files are written from here (config_pages.py).
"""

import difflib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from click import ClickException
from msgspec import Meta

from urls import read_dsn, read_networks, read_redis_url, split_url, sqlalchemy_url

# Beyond these bounds lies what PostgreSQL, Redis or the system would refuse later, in words of theirs.
Positive = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Days = Annotated[int, Meta(ge=1, le=36_500)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Processes = Annotated[int, Meta(ge=1, le=1000)]
Bytes = Annotated[int, Meta(ge=1, le=2**50)]
Rate = Annotated[str, Meta(pattern=r"^(off|[1-9]\d{0,8}/[1-9]\d{0,8})$")]
Host = Annotated[str, Meta(pattern=r"^(\[?[0-9A-Fa-f:.]+\]?|[A-Za-z0-9._-]+)$")]
# What a header can hold, or a name in Redis.
Token = Annotated[str, Meta(pattern=r"^[!-~]*$")]

_SWITCHES = {"on": True, "yes": True, "true": True, "1": True, "off": False, "no": False, "false": False, "0": False}


class ConfigError(ClickException):
    """One or more settings are wrong; the message has a line for each. Commands end with it and no traceback."""


def doc(text: str) -> Meta:
    return Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    database_url: Annotated[
        str,
        Meta(pattern=r"^\S+$"),
        doc(
            "PostgreSQL 14 to 18, e.g. `postgresql://user:password@host/dues`; in a password `@` is written `%40`, `/` "
            "`%2F` and `%` `%25`"
        ),
    ]
    database_replica_urls: Annotated[
        str,
        Meta(pattern=r"^\s*(postgres(ql)?://\S+(\s+|$))*$"),
        doc("standbys of it, for reads, separated by blanks; web processes and relays both need it; empty: none"),
    ] = ""
    redis_url: Annotated[str, doc("Redis 7 or Valkey, for queues, wake-ups and (unless set apart) the cache")]
    secret_key: Annotated[str, Meta(min_length=32), doc("signs cursors and derived secrets; at least 32 characters")]
    environment: Annotated[
        Literal["development", "production"],
        doc("`production`: the sandbox charges in test stores alone, since nobody pays real money there"),
    ] = "development"
    secrets_keys: Annotated[
        str,
        Meta(pattern=r"^([A-Za-z0-9_-]{43}=(,[A-Za-z0-9_-]{43}=)*)?$"),
        doc(
            "keys that the secrets of stores' gateways are encrypted with, as `flask gateways new-key` makes them, "
            "separated by commas: the first encrypts, all of them decrypt; empty: no store can have a gateway of its "
            "own"
        ),
    ] = ""
    cache_redis_url: Annotated[str, doc("one Redis node reached directly, for the cache; REDIS_URL if empty")] = ""
    cache_key_prefix: Annotated[Token, doc("what the cache's names in Redis begin with")] = "dues:"
    cache_default_timeout: Annotated[Positive, doc("seconds after which a cached answer is forgotten though fresh")] = (
        3600
    )
    cache_memory_bytes: Annotated[int, Meta(ge=0, le=2**50), doc("most that a web process keeps of cached answers")] = (
        64 * 1024 * 1024
    )
    public_url: Annotated[
        str, Meta(pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$"), doc("where clients reach this API; used in mails")
    ] = "http://127.0.0.1:8000"
    account_link_url: Annotated[
        str,
        Meta(pattern=r"^(https?://.*\{code\}.*)?$"),
        doc(
            "what links in mails about accounts open, with `{code}` and, if need be, `{purpose}` (`verify-email` or "
            "`reset-password`) in it; empty: a page of the API's own"
        ),
    ] = ""

    dues_home: Annotated[str, doc("folder for what Dues keeps on disk")] = "var"
    files_dir: Annotated[str, doc("folder of finished reports and of files to import; `$DUES_HOME/files` if empty")] = (
        ""
    )
    fonts_dir: Annotated[
        str, doc("folder of further fonts, which is there, for scripts that Noto's have no letters of; empty: none")
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        doc("least severe line that is logged; `debug`: one for each request"),
    ] = "info"

    host: Annotated[Host, doc("address the web server listens on; `::` is every one, of IPv6 and of IPv4")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65535), doc("port the web server listens on")] = 8000
    web_concurrency: Annotated[Processes, doc("web processes")] = 1
    web_threads: Annotated[Processes, doc("threads of a web process, for writes and first visits")] = 8
    max_waiting_clients: Annotated[
        Positive, doc("clients that wait in a web process for a job, and as many for changes; others are told at once")
    ] = 12_000
    max_connections: Annotated[
        int,
        Meta(ge=0, le=1_000_000_000),
        doc("connections that a web process keeps; 0: as many as its limit of open files allows"),
    ] = 0
    keep_alive_s: Annotated[
        Positive, doc("how long an idle connection is kept, in seconds; longer than the proxies and balancers in front")
    ] = 75
    forwarded_allow_ips: Annotated[
        str,
        doc("proxies whose X-Forwarded-For is believed, e.g. `127.0.0.1,10.0.0.0/8`; `*`: every peer; empty: nobody's"),
    ] = ""
    cells: Annotated[
        str,
        Meta(pattern=r"^\s*([a-z][a-z0-9-]{0,30}=https?://[^\s/?#@]+(\s+|$))*$"),
        doc(
            "makes this Dues the directory of cells: the name and the internal address of each, separated by blanks, "
            "e.g. `a=http://10.0.1.5:8000 b=http://10.0.2.5:8000`; empty: it is none"
        ),
    ] = ""
    cell: Annotated[
        str,
        Meta(pattern=r"^([a-z][a-z0-9-]{0,30}=https?://[^\s/?#@]+)?$"),
        doc(
            "makes this Dues a cell: its name, and the internal address of its directory, e.g. "
            "`a=http://10.0.0.5:8000`; empty: it is none"
        ),
    ] = ""
    cells_key: Annotated[
        str,
        Meta(pattern=r"^([!-~]{32,})?$"),
        doc(
            "of the directory, at least 32 characters that nobody can guess; of a cell, what `flask cells key` there "
            "says for it"
        ),
    ] = ""
    cors_origins: Annotated[
        str,
        Meta(pattern=r"^(\*|https?://[a-z0-9.:\[\]_-]+(,https?://[a-z0-9.:\[\]_-]+)*)?$"),
        doc("origins whose pages in browsers may use the API, e.g. `https://club.example`; `*`: every; empty: none"),
    ] = ""
    max_body_bytes: Annotated[Bytes, doc("largest request body, after decoding")] = 1024 * 1024
    max_import_bytes: Annotated[Bytes, doc("largest file of an import, after decoding")] = 64 * 1024 * 1024
    slow_request_s: Annotated[
        float, Meta(ge=0, le=86_400), doc("a request slower than this many seconds is logged as a warning")
    ] = 0.5
    rate_limit: Annotated[Rate, doc("requests per seconds for a token or address, or `off`")] = "600/60"
    metrics_token: Annotated[
        Token, doc("`/metrics` wants it as a bearer token; empty: it is open to whoever reaches the web server")
    ] = ""
    purge_url: Annotated[
        str,
        Meta(pattern=r"^(https?://[^@/?#]+([/?].*)?)?$"),
        doc("where a CDN is told to purge by tag; empty: shared caches must revalidate"),
    ] = ""
    purge_token: Annotated[Token, doc("sent to PURGE_URL as a bearer token")] = ""

    db_pool_size: Annotated[Positive, doc("database connections a process keeps")] = 10
    db_read_connections: Annotated[
        Positive, doc("most further connections of a web process, on which it reads without a thread")
    ] = 10
    db_pool_timeout_s: Annotated[Seconds, doc("how long a request waits for a connection before 503")] = 5.0
    db_statement_timeout_s: Annotated[
        float, Meta(ge=0.001, le=86_400), doc("longest a statement of a request may run")
    ] = 15.0
    db_network_timeout_s: Annotated[
        float,
        Meta(ge=2, le=3600),
        doc("how long the network to PostgreSQL or Redis may be silent"),
    ] = 10.0
    db_prepare: Annotated[
        bool,
        doc("prepare hot statements and set up sessions as they start; `false` behind a proxy that pools transactions"),
    ] = True

    smtp_url: Annotated[
        str,
        Meta(pattern=r"^(smtp|smtp\+starttls|smtps)://[^/?#]+/?$"),
        doc("mail server: `smtp://`, `smtp+starttls://` or `smtps://user:password@host:port`"),
    ] = "smtp://127.0.0.1:25"
    smtp_timeout_s: Annotated[Seconds, doc("longest wait for one answer of the mail server")] = 20.0
    mail_from: Annotated[
        str, Meta(pattern=r"^([^<>]*<[^<>@\s]+@[^<>@\s]+>|[^<>@\s]+@[^<>@\s]+)$"), doc("sender of mails")
    ] = "Dues <no-reply@dues.invalid>"
    mail_lookup_url: Annotated[
        str,
        Meta(pattern=r"^(https?://.+)?$"),
        doc("asked `GET {url}/{message-id}` whether a mail was accepted (200 or 404); empty: cannot be asked"),
    ] = ""
    mail_in_doubt: Annotated[
        Literal["hold", "resend"], doc("what becomes of a mail that may have been sent when nobody can be asked")
    ] = "hold"
    mail_events_secret: Annotated[
        str,
        Meta(pattern=r"^(whsec_([A-Za-z0-9+/]{4}){8,}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)?$"),
        doc("signs what the mail provider reports of bounces and complaints, `whsec_` and base64; empty: not taken"),
    ] = ""
    mailing_domain_limit: Annotated[
        Rate,
        doc(
            "posts mailed per seconds to addresses of one domain, over all stores and workers, e.g. `600/60`, or `off`"
        ),
    ] = "off"

    webhook_timeout_s: Annotated[float, Meta(gt=0, le=30), doc("longest a webhook's receiver may take")] = 15.0
    webhook_allowed_hosts: Annotated[
        str,
        Meta(pattern=r"^(?:(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?(?:,(?!$)|$))*$"),
        doc("hosts that webhooks may reach on private addresses, e.g. `localhost:9000,10.0.0.5`; empty: none"),
    ] = ""
    webhook_retry_scale: Annotated[
        float, Meta(ge=1, le=1_000_000), doc("divides the waits between a webhook's attempts")
    ] = 1.0

    webhook_threads: Annotated[
        Processes, doc("requests that a worker process of `webhooks` makes at once, each in a thread")
    ] = 16
    webhooks_per_store: Annotated[
        Positive, doc("most deliveries of one store that run at once, over all workers; others get the rest")
    ] = 8
    webhooks_per_host: Annotated[
        Positive,
        doc("most deliveries to one host that a worker process makes at once; a store may always make one there"),
    ] = 12

    gateway_timeout_s: Annotated[Seconds, doc("longest a payment gateway may take to answer")] = 10.0
    stripe_api_url: Annotated[
        str, Meta(pattern=r"^https?://[^@/?#]+$"), doc("where Stripe's API is, for stores whose gateway it is")
    ] = "https://api.stripe.com"
    job_lease_s: Annotated[Seconds, doc("a job whose worker is silent this long is taken over")] = 15.0
    worker_queues: Annotated[
        str,
        Meta(pattern=r"^[a-z]+:\d{1,3}(,[a-z]+:\d{1,3})*$"),
        doc("worker processes of each queue"),
    ] = "critical:1,default:1,events:1,bulk:1,slow:2,webhooks:1"
    slow_jobs_per_store: Annotated[
        Positive,
        doc(
            "most jobs of the queue `slow` (reports, imports, replays) of one store that run at once, over all workers"
        ),
    ] = 1
    keep_jobs_days: Annotated[Days, doc("days after which finished jobs are forgotten")] = 30
    keep_report_files_days: Annotated[
        Days,
        doc("days after which the files of finished reports and imports are deleted; they themselves stay listed"),
    ] = 90
    keep_events_days: Annotated[Days, doc("days after which events and their webhook deliveries are forgotten")] = 90
    relay_poll_s: Annotated[Seconds, doc("how often the relay looks for due jobs when nobody wakes it")] = 0.25

    def __post_init__(self) -> None:
        defaults = {
            "database_url": sqlalchemy_url(self.database_url),
            "cache_redis_url": self.cache_redis_url or self.redis_url,
            "files_dir": self.files_dir or os.path.join(self.dues_home, "files"),
            "fonts_dir": self.fonts_dir and os.path.abspath(self.fonts_dir),  # noqa: PTH100  (read from another folder)
            "public_url": self.public_url.rstrip("/"),
        }
        for name, value in defaults.items():
            msgspec.structs.force_setattr(self, name, value)


def _read_template(text: str) -> None:
    """A link with `{code}` and `{purpose}` in it, and nothing else in braces."""
    try:
        split_url(text.format(code="", purpose=""))
    except (KeyError, IndexError, AttributeError):
        raise ValueError("there is something else in braces") from None


def _read_folder(text: str) -> None:
    if not (os.path.isdir(text) and os.access(text, os.R_OK | os.X_OK)):  # noqa: PTH112  (Path: not for long names)
        raise ValueError("there is no such folder that can be read")


# What the text of a setting has to read as, where its type does not tell. Each raises ValueError.
_READERS: Mapping[str, Callable[[str], object]] = {
    "database_url": read_dsn,
    "database_replica_urls": lambda text: [read_dsn(url) for url in text.split()],
    "redis_url": read_redis_url,
    "cache_redis_url": read_redis_url,
    "forwarded_allow_ips": read_networks,
    "cells": lambda text: [split_url(word.partition("=")[2]) for word in text.split()],
    "cell": lambda text: split_url(text.partition("=")[2]),
    "account_link_url": _read_template,
    "fonts_dir": _read_folder,
    **dict.fromkeys(("public_url", "purge_url", "smtp_url", "mail_lookup_url", "stripe_api_url"), split_url),
}
# As files of secrets, and people who copy, leave them: what is compared with such a value would never be equal to it.
_STRAY = re.compile(r"^\s|\s$|[\x00-\x1f\x7f]")
# Of lists, whose words are separated by blanks.
_MAY_HAVE_STRAYS = ("database_replica_urls", "cells")
# How alike two names of variables are which one may have been meant for the other.
_ALIKE = 0.88


def load_settings(env: Mapping[str, str] = os.environ) -> Settings:
    """Read and check every setting.

    Raises: ConfigError naming each variable that is missing or wrong (never its value: it may be a secret).
    """
    values: dict[str, Any] = {}
    faults = []
    for field in msgspec.structs.fields(Settings):
        variable = field.name.upper()
        text = env.get(variable)
        if not text:
            if field.required:
                faults.append(f"{variable} is not set: {description(field)}")
            continue
        try:
            values[field.name] = _value(field, text)
        except (msgspec.ValidationError, ValueError):
            is_stray = _STRAY.search(text) and field.name not in _MAY_HAVE_STRAYS
            fault = "has a blank at an end, or a line break in it" if is_stray else _fault(field)
            faults.append(f"{variable} {fault}: {description(field)}")
    if faults:
        raise ConfigError("\n".join([*faults, *lookalikes(env)]))
    return Settings(**values)


def _value(field: msgspec.structs.FieldInfo, text: str) -> object:
    """Raises: ValueError, msgspec.ValidationError."""
    if _STRAY.search(text) and field.name not in _MAY_HAVE_STRAYS:
        raise ValueError("this is not as it was meant")
    # How people write switches; what JSON calls them is among these.
    value = _SWITCHES.get(text.lower(), text) if _schema(field)["type"] == "boolean" else text
    found = msgspec.convert(value, field.type, strict=False)
    if read := _READERS.get(field.name):
        read(text)
    if isinstance(found, float) and not math.isfinite(found):
        raise ValueError("this is no number")
    return found


def lookalikes(env: Mapping[str, str] = os.environ) -> Iterator[str]:
    """A line about each variable that is no setting, and may have been meant to be one which is not set."""
    unset = [name for field in Settings.__struct_fields__ if not env.get(name := field.upper())]
    known = {field.upper() for field in Settings.__struct_fields__}
    for variable in sorted(env.keys() - known):
        for name in difflib.get_close_matches(variable.upper().removeprefix("DUES_"), unset, 1, _ALIKE):
            yield f"{variable} is no setting: {name} is"


def settings_or_exit(*checks: Callable[[Settings], object]) -> Settings:
    """The settings of a program, from its environment. Where some are wrong, or one of `checks` raises a ConfigError,
    it ends with status 1, after a line about each on standard error."""
    try:
        found = load_settings()
        for check in checks:
            check(found)
        return found
    except ConfigError as error:
        sys.exit(error.message)


def description(field: msgspec.structs.FieldInfo) -> str:
    return str(_schema(field).get("description", ""))


def _schema(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    return {"type": "string"} | msgspec.json.schema(field.type)


def _fault(field: msgspec.structs.FieldInfo) -> str:
    """What is wrong with a value that is none, without the value."""
    schema = _schema(field)
    if "enum" in schema:
        return f"is not one of {', '.join(schema['enum'])}"
    bounds = [
        f"{words} {_plain(schema[name])}"
        for name, words in (("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"))
        if name in schema
    ]
    match schema["type"]:
        case "boolean":
            return "is neither on nor off"
        case "integer":
            return " ".join(("is not a whole number", " and ".join(bounds))).strip()
        case "number":
            return " ".join(("is not a number", " and ".join(bounds))).strip()
    if "minLength" in schema:
        return f"is shorter than {schema['minLength']} characters"
    return "does not read as it should"


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"
