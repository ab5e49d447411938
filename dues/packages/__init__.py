"""What stores sell."""
