"""`python -m bench [--quick] [suite …]`: see bench/__init__.py."""

import argparse

from bench import reads
from bench.load import require_wrk
from bench.report import save


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Side-by-side benchmarks of Dues.")
    parser.add_argument("suites", nargs="*", choices=[[], "reads"], help="which; all if none is named")
    parser.add_argument("--quick", action="store_true", help="about two minutes, with wider spreads")
    options = parser.parse_args()
    require_wrk()
    rounds, seconds, payments = (2, 2, 100_000) if options.quick else (5, 5, 400_000)
    save([reads.run(rounds, seconds, payments)], options.quick)


if __name__ == "__main__":
    main()
