"""People as the API shows them whole: what a user sees of himself, and what the public sees of him.

Both gather what slices above accounts hold, so they stand above those."""
