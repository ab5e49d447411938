"""Cells under one name: several whole Dues, each with stores of its own, and a directory that all of them ask.

The **directory** is the Dues whose setting CELLS names the others. It has the users, their tokens, and the map of
stores. A **cell** is a Dues whose setting CELL names it. The gateway asks the directory about each request for a store
(`/cells/question`): which cell is it for, and who is calling? The answer is signed for that cell and that request
alone, so a cell never decides by itself whether a token holds. docs/decisions/0030 has the reasons.

signatures.py  what one of them signs and another verifies
assertion.py   what the directory says of a request's caller
question.py    how it is read in the directory, through the cache
places.py      which cell has a store
copies.py      in a cell: the rows of users and tokens that the directory has told of
telling.py     in the directory: telling the cells of changes
calls.py       what they ask one another
commands.py    `flask cells`
"""
