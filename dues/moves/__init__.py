"""Moving a store, with all that it has, from this Dues to another: `flask stores move`.

tables.py    what a store has: every table with rows of it
fence.py     the triggers that refuse writes to a store while it is copied
states.py    how far a move has come: `store_moves`
wire.py      what the two ends say to each other, over the pipes of a command
rows.py      rows on their way: copied out, copied in, and counted with a digest
departure.py the end where the store leaves
within.py    the directory of cells, where the two ends are under one name
removal.py   what is deleted there once the store has arrived
arrival.py   the end where it arrives
gateways.py  where the stores that left are now, as gateways read it
commands.py  `flask stores`
"""
