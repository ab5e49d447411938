"""What OTEL_* may say (docs/operating.md, "Traces"), read without OpenTelemetry's packages: whatever is wrong is said
in one line as a program starts, also by the main process of gunicorn, which records no spans."""

import logging
import math
import os
import random
import re
from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple
from urllib.parse import urlsplit

from config import ConfigError
from dues.observability.trace import export_spans_to, is_recording, is_sampled

log = logging.getLogger("dues.traces")

# The part of a trace's id that a ratio is taken of, as the SDK's own sampler does, so that all services agree.
_RANDOM_PART = (1 << 64) - 1
_SAMPLERS = ("always_on", "always_off", "traceidratio")
_COMPRESSIONS = ("none", "gzip", "deflate")
# As the SDK reads a header, which logs as it is what it does not understand.
_HEADER = re.compile(r"[!#-'*+.0-9A-Z^-z|~-]+[ \t]*=[ !#-+.-:<-\[\]-~-]*")


class Batches(NamedTuple):
    """OTEL_BSP_*: times in milliseconds, sizes in spans."""

    schedule_delay: int = 5000
    export_timeout: int = 30_000
    max_queue_size: int = 2048
    max_export_batch_size: int = 512


class Sampler:
    """OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG: which spans are recorded."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Raises: ConfigError."""
        name = environ.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
        self._follows_parent = name.startswith("parentbased_")
        kind = name.removeprefix("parentbased_")
        if kind not in _SAMPLERS:
            raise ConfigError(
                f"OTEL_TRACES_SAMPLER is none of {', '.join(_SAMPLERS)}, with or without parentbased_ before it"
            )
        self._share = float(kind == "always_on")
        if kind == "traceidratio":
            self._share = _number(environ, "OTEL_TRACES_SAMPLER_ARG", 1)
            if not 0 <= self._share <= 1:
                raise ConfigError("OTEL_TRACES_SAMPLER_ARG is not a number from 0 to 1")

    def samples(self, parent: str | None) -> bool:
        if parent is None:
            return random.random() < self._share  # noqa: S311  (not a secret)
        if self._follows_parent:
            return is_sampled(parent)
        return int(parent[3:35], 16) & _RANDOM_PART < self._share * (_RANDOM_PART + 1)


def batches_of(environ: Mapping[str, str]) -> Batches:
    """How spans are sent together. Raises: ConfigError."""
    values = {}
    for field, default in Batches._field_defaults.items():
        name = f"OTEL_BSP_{field.upper()}"
        number = _number(environ, name, default)
        if number != int(number) or number < 1:
            raise ConfigError(f"{name} is not a whole number at least 1")
        values[field] = int(number)
    found = Batches(**values)
    if found.max_export_batch_size > found.max_queue_size:
        raise ConfigError("OTEL_BSP_MAX_EXPORT_BATCH_SIZE is more than OTEL_BSP_MAX_QUEUE_SIZE")
    return found


def _named(environ: Mapping[str, str]) -> str:
    """How spans are to be sent; `none` where they are not."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return "none"
    asked = _of_exporter(environ, "ENDPOINT")[1]
    return environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if asked else "none")


def start_spans(environ: Mapping[str, str] = os.environ) -> None:
    """Record spans where OTEL_* says where to send them, and the packages of requirements-otel.txt are there; else
    nothing of theirs is even imported. Raises: ConfigError."""
    named = _named(environ)
    if is_recording() or named == "none":
        return
    if named != "otlp":
        log.warning("no spans are recorded: OTEL_TRACES_EXPORTER may be otlp or none here")
        return
    check_otel(environ)
    try:
        exporter = import_module("dues.observability.spans").exporter_of(environ)
    except ModuleNotFoundError as missing:
        log.warning("no spans are recorded: %s is not installed (requirements-otel.txt)", missing.name)
        return
    except (ValueError, RuntimeError, OSError) as refused:
        # Rare ones of theirs, such as limits and credentials.
        raise ConfigError(f"OpenTelemetry refuses what OTEL_* says ({type(refused).__name__})") from None
    export_spans_to(exporter)


def check_otel(environ: Mapping[str, str] = os.environ) -> None:
    """Where spans are asked for, whether they can be sent as OTEL_* says.

    Raises: ConfigError naming the first variable that cannot be followed, without its value, which may be a secret.
    """
    if _named(environ) != "otlp":
        return
    Sampler(environ)
    batches_of(environ)
    name, protocol = _of_exporter(environ, "PROTOCOL")
    if protocol not in ("", "http/protobuf"):
        raise ConfigError(f"{name} is not http/protobuf, which is all that is spoken here")
    name, url = _of_exporter(environ, "ENDPOINT")
    if url and not _is_url(url):
        raise ConfigError(f"{name} is not the URL of a collector, such as http://127.0.0.1:4318")
    name, _ = _of_exporter(environ, "TIMEOUT")
    if _number(environ, name, 1) <= 0:
        raise ConfigError(f"{name} is not a number of seconds above 0")
    name, compression = _of_exporter(environ, "COMPRESSION")
    if compression.lower() not in ("", *_COMPRESSIONS):
        raise ConfigError(f"{name} is none of {', '.join(_COMPRESSIONS)}")
    name, headers = _of_exporter(environ, "HEADERS")
    if not all(_HEADER.fullmatch(header.strip()) for header in headers.split(",") if header.strip()):
        raise ConfigError(f"{name} does not read as name=value,name=value")


def _of_exporter(environ: Mapping[str, str], word: str) -> tuple[str, str]:
    """A variable of the exporter, and what it says: that of traces goes before that of everything."""
    names = [f"OTEL_EXPORTER_OTLP_{part}{word}" for part in ("TRACES_", "")]
    name = next((name for name in names if environ.get(name)), names[1])
    return name, environ.get(name, "").strip()


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    """Raises: ConfigError."""
    try:
        found = float(environ.get(name) or default)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ConfigError(f"{name} is not a number")
    return found


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
