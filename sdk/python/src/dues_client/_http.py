"""The HTTP library under both clients: httpx2, or for Python 3.10 the httpx that it comes from."""

import sys

if sys.version_info >= (3, 11):
    import httpx2 as httpx
else:
    import httpx

__all__ = ["httpx"]
