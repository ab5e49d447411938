"""`python -m bench [--quick] [suite …]`: see bench/__init__.py."""

import argparse
import signal
import sys
from collections.abc import Collection

from bench import (
    billing,
    billing_metrics,
    depth,
    fairness,
    feed,
    feed_size,
    freshness,
    gateways,
    jobs,
    likes,
    memory,
    partitions,
    payments,
    reads,
    slow,
    waits,
)
from bench.feed_data import Size, fill_feeds
from bench.load import require_wrk
from bench.report import save

SUITES = (
    "reads",
    "slow",
    "depth",
    "payments",
    "jobs",
    "fairness",
    "waits",
    "freshness",
    "feed",
    "feed-size",
    "likes",
    "memory",
    "billing",
    "metrics",
    "partitions",
    "gateways",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Side-by-side benchmarks of Dues.")
    parser.add_argument("suites", nargs="*", choices=[[], *SUITES], help="which; all if none is named")
    parser.add_argument("--quick", action="store_true", help="a few minutes a suite at most, with wider spreads")
    parser.add_argument("--minutes", type=float, default=15, help="how long the memory is watched")
    parser.add_argument("--report-rows", type=int, default=1_000_000, help="how long the report of the jobs is")
    # Ten million take 12 GB, and a quarter of an hour to insert.
    parser.add_argument("--posts", type=int, help="how many posts the second feed of feed-size has: 10,000,000")
    parser.add_argument("--rows", type=int, help="how many payments the suite partitions has: 10,000,000 take 10 GB")
    parser.add_argument("--fill", action="store_true", help="only put in what feed and feed-size read, for a later run")
    parser.add_argument("--depth", type=int, help="how deep feed-size goes into that feed by cursor: 100,000 posts")
    group = parser.add_argument_group("freshness")
    group.add_argument("--reads", type=int, default=100_000, help="how many reads must follow a write")
    group.add_argument("--faults", action="store_true", help="with Redis in trouble, and web processes killed")
    group.add_argument("--broken", action="store_true", help="with the touch after the commit: must find stale reads")
    group.add_argument("--replicas", action="store_true", help="with two standbys, one of which is 2 s late")
    group.add_argument("--failovers", action="store_true", help="with standbys, of which one takes over now and then")
    options = parser.parse_args()
    # Exit normally on SIGTERM, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    suites = options.suites or SUITES
    if {"reads", "slow", "depth", "payments", "feed", "feed-size", "memory", "partitions", "gateways"} & set(suites):
        require_wrk()
    if "reads" in suites:
        rounds, seconds, many = (2, 2, 100_000) if options.quick else (5, 5, 400_000)
        save([reads.run(rounds, seconds, many)], options.quick)
    if "slow" in suites:
        rounds, seconds, many = (1, 3, 100_000) if options.quick else (3, 5, 400_000)
        save([slow.run(rounds, seconds, many)], options.quick)
    if "depth" in suites:
        # Ten million payments take 7 GB, and minutes to insert.
        rounds, seconds, many, deep = (2, 1, 1_000_000, 100_000) if options.quick else (5, 2, 10_000_000, 1_000_000)
        save([depth.run(rounds, seconds, many, deep)], options.quick)
    if "payments" in suites:
        rounds, seconds = (2, 2) if options.quick else (5, 5)
        save([payments.run(rounds, seconds)], options.quick)
    if "jobs" in suites:
        rounds, times, rows = (2, 2, 200_000) if options.quick else (5, 5, options.report_rows)
        save([jobs.run(rounds, times, rows)], options.quick)
    if "fairness" in suites:
        rounds, samples, batch = (2, 25, 20_000) if options.quick else (3, 50, 100_000)
        save([fairness.run(rounds, samples, batch)], options.quick)
    if "waits" in suites:
        count = 2_000 if options.quick else 10_000
        save([waits.run(2 if options.quick else 5, 2 if options.quick else 10, count)], options.quick)
    if "memory" in suites:
        save([memory.run(1 if options.quick else options.minutes)], options.quick)
    _features(options, suites)
    if "freshness" in suites:
        given = {name: getattr(options, name) for name in ("faults", "broken", "replicas", "failovers")}
        seen = freshness.prove(2_000 if options.quick else options.reads, **given)
        enough_hits = options.faults or options.broken or options.failovers or seen.share_of_hits() >= 0.5
        if bool(seen.stale) != options.broken or not enough_hits:
            sys.exit("not as it should be")


def _features(options: argparse.Namespace, suites: Collection[str]) -> None:
    """The suites of features that build on the core: feeds, likes, billing, metrics, partitions and gateways."""
    if "feed" in suites:
        size, operations = (Size(100_000, 20_000), 6_000) if options.quick else (Size(1_000_000, 1_000_000), 40_000)
        rounds, seconds = (2, 2) if options.quick else (5, 10)
        if options.fill:
            fill_feeds(size)
        else:
            save([feed.run(size, operations, seconds, rounds)], options.quick)
    if "feed-size" in suites:
        posts, deep, rounds, seconds = (200_000, 10_000, 2, 1) if options.quick else (10_000_000, 100_000, 5, 2)
        posts = options.posts or posts
        if options.fill:
            fill_feeds(*feed_size.sizes(posts))
        else:
            save([feed_size.run(posts, options.depth or deep, rounds, seconds)], options.quick)
    if "likes" in suites:
        rounds, seconds = (2, 2) if options.quick else (7, 5)
        save([likes.run(rounds, seconds)], options.quick)
    if "billing" in suites:
        due, watched_s = (10_000, 10) if options.quick else (100_000, 60)
        save([billing.run(due, watched_s)], options.quick)
    if "metrics" in suites:
        many, members = (100_000, 10_000) if options.quick else (1_000_000, 100_000)
        save([billing_metrics.run(many, members)], options.quick)
    if "partitions" in suites:
        rounds, seconds, rows, deep = (2, 1, 200_000, 10_000) if options.quick else (5, 2, 10_000_000, 200_000)
        save([partitions.run(rounds, seconds, options.rows or rows, deep)], options.quick)
    if "gateways" in suites:
        save([gateways.run(*((2, 1) if options.quick else (5, 3)))], options.quick)


if __name__ == "__main__":
    main()
