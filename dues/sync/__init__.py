"""Sync: what a client has missed while it was offline (changes.py), and what it did meanwhile (operations.py)."""
