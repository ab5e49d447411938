"""Documents that a store has issued: receipts and what is given for refunds. Each is numbered in its store, and kept as
it was issued, with the data that it was made from."""
