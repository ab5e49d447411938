"""Users as the API shows them: their own view of themselves (`me`), and everybody's (`profiles`).

Both gather rows of several slices, so they stand above these."""
