"""`bin/run`, `bin/tour` and `bin/pictures`: the whole of Dues on one machine that has nothing but Python."""
