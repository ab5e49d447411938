"""Tables of stores on several servers, by Citus: `flask shards`. A PostgreSQL without the extension has none of it.

    placement.py     which table is spread by store, which is copied to every server, which stays on the coordinator
    catalog.py       what PostgreSQL and Citus know of tables, keys, triggers and servers
    distribution.py  the statements that spread the tables, in one transaction
    commands.py      `flask shards`

docs/scaling.md ("Citus") says what runs on it and what does not.
"""
