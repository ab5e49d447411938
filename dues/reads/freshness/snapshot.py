"""What an answer has seen: PostgreSQL's snapshot against the touches that a version lists.

A version is one string per tag, joined by blanks: `floor;id,id,…`. Whatever transaction has touched the tag so far is
among the ids, or its id is at most `floor`.
"""


def covers(version: str, snapshot: str) -> bool:
    """Whether `snapshot` has seen the end of every transaction that touched the tags until `version` was read.

    `snapshot` is `pg_current_snapshot()::text`, `xmin:xmax:id,id,…`: all below xmin are finished, xmax and above are
    not (also those that run already), and between them the ids listed are not. What is no version is covered by none:
    somebody else has written into the cache.
    """
    xmin, xmax, listed = snapshot.split(":")
    oldest, end = int(xmin), int(xmax)
    running = set(map(int, listed.split(","))) if listed else ()
    try:
        for tag in version.split(" "):
            floor, ids = tag.split(";")
            if int(floor) >= oldest:
                return False
            for xid in map(int, ids.split(",") if ids else ()):
                if xid >= end or xid in running:
                    return False
    except ValueError:
        return False
    return True
