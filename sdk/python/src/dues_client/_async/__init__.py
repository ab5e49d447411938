"""The client in its `async` form, from which the blocking form in _sync is made by `python -m sdk.generator`."""
