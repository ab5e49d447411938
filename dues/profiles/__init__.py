"""People as the API shows them whole: what users see of themselves, and what the public sees of them.

Both gather what slices above accounts hold, so they stand above those."""
