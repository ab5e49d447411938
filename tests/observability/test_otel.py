"""What OTEL_* may say: what cannot be followed is refused by its name, and never by its value."""

import pytest

from config import ConfigError
from dues.observability.otel import Batches, batches_of, check_otel

pytestmark = pytest.mark.unit

ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
OTLP = "OTEL_EXPORTER_OTLP_"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER", "parentbased_"),
        *[("OTEL_TRACES_SAMPLER_ARG", value) for value in ("hunter2", "2", "-1", "nan", "inf")],
        *[
            (f"OTEL_BSP_{field.upper()}", value)
            for field in Batches._fields
            for value in ("hunter2", "0", "-5", "1.5", "nan", "inf")
        ],
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096"),
        *[
            (f"{OTLP}{part}{name}", value)
            for part in ("", "TRACES_")
            for name, value in (
                ("PROTOCOL", "grpc"),
                ("ENDPOINT", "collector:4318"),
                ("ENDPOINT", "http://"),
                ("ENDPOINT", "http://collector:hunter2"),
                ("ENDPOINT", "http://collector:99999"),
                ("TIMEOUT", "ten"),
                ("TIMEOUT", "0"),
                ("TIMEOUT", "-1"),
                ("COMPRESSION", "brotli"),
                ("HEADERS", "Bearer hunter2"),
                ("HEADERS", "a=b,hunter2"),
                ("HEADERS", 'a="hunter2"'),
            )
        ],
    ],
)
def test_what_cannot_be_followed_is_refused(name: str, value: str) -> None:
    environ = {"OTEL_TRACES_SAMPLER": "traceidratio", **ON, name: value}
    with pytest.raises(ConfigError) as refused:
        check_otel(environ)
    said = str(refused.value)
    assert said.split(maxsplit=1)[0] == name
    assert "\n" not in said
    assert "hunter2" not in said
    check_otel({**environ, "OTEL_SDK_DISABLED": "true"})
    check_otel({**environ, "OTEL_TRACES_EXPORTER": "none"})


@pytest.mark.parametrize(
    "environ",
    [
        {f"OTEL_BSP_{field.upper()}": "" for field in Batches._fields},
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
        {f"{OTLP}HEADERS": "x-key=a%20b, authorization=Bearer abc==,", f"{OTLP}TIMEOUT": "2.5"},
        {f"{OTLP}COMPRESSION": "gzip", f"{OTLP}CERTIFICATE": "/etc/ca.pem"},
        {f"{OTLP}PROTOCOL": "grpc", f"{OTLP}TRACES_PROTOCOL": "http/protobuf"},
    ],
)
def test_what_is_right_passes(environ: dict[str, str]) -> None:
    check_otel({**ON, **environ})
    assert batches_of(environ) == Batches()
