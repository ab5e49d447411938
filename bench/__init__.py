"""Side-by-side benchmarks: Dues and alternatives for the same work, in one interleaved run.

    python -m bench             every suite; the tables go to bench/RESULTS.md and bench/results.json
    python -m bench --quick     the same in a few minutes per suite at most, with wider spreads
    python -m bench reads       one suite

Benchmark machines are noisy, so what counts is a ratio of medians from one run, never a figure by itself.
"""
