"""Where the stores that left are now, as gateways read it, which pass the paths of each on to its Dues."""

from typing import Literal, get_args
from urllib.parse import urlsplit
from uuid import UUID

Gateway = Literal["caddy", "haproxy", "nginx"]
GATEWAYS: tuple[Gateway, ...] = get_args(Gateway)


def gateway_map(gateway: Gateway, moved: list[tuple[UUID, str]]) -> str:
    """Lines for its configuration: docs/scaling.md says where they go."""
    match gateway:
        case "caddy":
            return "".join(_caddy(store_id, address) for store_id, address in moved)
        case "haproxy":
            # For `map_beg`, on the path in lower case: a prefix and the backend that it belongs to.
            return "".join(f"{path} {_name(address)}\n" for store_id, address in moved for path in _paths(store_id))
        case "nginx":
            lines = "".join(
                f"    ~*^{path}(/|$) {address};\n" for store_id, address in moved for path in _paths(store_id)
            )
            return f'map $uri $dues_moved {{\n    default "";\n{lines}}}\n'


def _paths(store_id: UUID) -> tuple[str, ...]:
    """All below these is the store's: its own paths, and where gateways of payments send their hooks to it."""
    return f"/v1/stores/{store_id}", f"/v1/gateways/stripe/{store_id}"


def _caddy(store_id: UUID, address: str) -> str:
    parts = urlsplit(address)
    return (
        f"@moved_{store_id.hex} path {' '.join(f'{path} {path}/*' for path in _paths(store_id))}\n"
        f"reverse_proxy @moved_{store_id.hex} {parts.scheme}://{parts.netloc} {{\n"
        "\theader_up Host {upstream_hostport}\n"
        "}\n"
    )


def _name(address: str) -> str:
    """Of a backend of HAProxy's."""
    return "dues_" + "".join(letter if letter.isalnum() else "_" for letter in urlsplit(address).netloc)
