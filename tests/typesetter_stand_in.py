"""A typesetter for tests that look at no document: what it sets says nothing, and is there at once."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_OBJECTS = (
    b"<< /Type /Catalog /Pages 2 0 R >>",
    b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>",
)


class TypesetterStandIn:
    """In the place of the typesetter's process. As there, the same request gives the same bytes, and another others."""

    def ask(self, request: Mapping[str, Any], patience_s: float | None = None) -> tuple[bytes, list[str]]:
        if "format" in request["document"]:
            raise NotImplementedError("only the true typesetter draws pictures: mark the test `typeset`")
        return _empty_page(hashlib.sha256(json.dumps(request).encode()).hexdigest().encode()), []


def _empty_page(comment: bytes) -> bytes:
    pdf, places = b"%PDF-1.7\n%" + comment + b"\n", []
    for number, content in enumerate(_OBJECTS, 1):
        places.append(len(pdf))
        pdf += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    entries = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(_OBJECTS) + 1
    return pdf + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        % (size, entries, size, len(pdf))
    )
