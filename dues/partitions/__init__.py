"""Large tables by month: `flask partitions`, where single ones have become too large. A new installation has none.

    tables.py      the tables that may be partitioned, and what each needs
    months.py      months, and the ids that bound them
    catalog.py     what PostgreSQL knows of a table and its partitions
    conversion.py  turning a table with rows into one by month
    upkeep.py      months ahead are made, old ones are emptied: every hour
    rows.py        which rows are deleted one by one all the same
    commands.py    `flask partitions`

docs/decisions/0027-partitions-are-opt-in.md has the reasons.
"""
