"""PDF pages: setting text in any script, and what pages have in common."""
