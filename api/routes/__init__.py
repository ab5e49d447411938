"""Routes, one module per slice: what is declared in each, and handlers that parse, call one function and answer."""
