"""Cells under one name (dues/cells) at the edge of HTTP.

refused.py    routes that a cell, or the directory, does not serve
directing.py  in the directory: what the gateway is told of each request
counting.py   in the directory: what of that counts against a caller
entrance.py   in a cell: who a request is let in for
pages.py      what the directory and the cells ask one another
"""
