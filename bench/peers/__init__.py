"""Alternatives for the same list: payments of a store, newest first, 20 per page, with user and package embedded.

Each follows its own documentation, on the same tables and the same Redis.
"""
