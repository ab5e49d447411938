"""What others would build for the same list: payments of a store, newest first, 20 a page, user and package embedded.

Each as its own documentation teaches, on the same tables and the same Redis.
"""
