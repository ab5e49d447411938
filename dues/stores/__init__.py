"""Stores, the people who run them, and who may do what there."""
