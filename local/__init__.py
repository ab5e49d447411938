"""What `bin/run` starts: a whole Dues on one machine that has nothing but Python."""
