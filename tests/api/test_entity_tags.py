"""Which If-None-Match names which answer (RFC 9110, 13.1.2; a compressed copy's tag ends with its encoding)."""

import pytest

from api.http import matches

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("header", ['"3"', 'W/"3"', '"3:br"', 'W/"3:gzip"', '"2", "3"', '"2","3:zstd"', "*", '"33", *'])
@pytest.mark.parametrize("etag", ['"3"', 'W/"3"', '"3:br"'])
def test_a_tag_is_known_in_whatever_encoding_its_client_has_it(header: str, etag: str):
    assert matches(header, etag)


@pytest.mark.parametrize("header", [None, "", '"2"', '"33"', '"13"', '"3.a"', '"2", "33"', "3", '"3', "W/3"])
@pytest.mark.parametrize("etag", ['"3"', 'W/"3"', '"3:br"'])
def test_no_other_tag_is(header: str | None, etag: str):
    assert not matches(header, etag)


def test_of_an_empty_tag_nothing_is_known_but_itself():
    assert [matches(header, '""') for header in ('""', 'W/""', '"3"')] == [True, True, False]
