"""Sync: what a client that was offline has missed (changes.py), and what it did meanwhile (operations.py)."""
