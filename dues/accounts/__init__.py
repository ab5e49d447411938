"""People: users, their addresses, and the tokens they call with."""
