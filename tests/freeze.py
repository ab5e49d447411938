"""What the process that others are forked from imports last. A web server and a supervisor of workers look for garbage
as they start; in a forked process they would look through all that has been imported for it, which takes longer than
all the rest of their start, and copies that memory."""

import gc

gc.collect()
gc.freeze()
