"""The business of Dues: no HTTP request and no queue is known here."""

import gc

VERSION = "0.1.0"

# A process makes some hundred thousand objects on its way up, and keeps them all. By default Python would look through
# them for garbage again after each 700, which takes up to a quarter of the time of starting a process.
gc.set_threshold(20_000, 10, 20)
