"""Reads: declared as resources, compiled to one statement, paged, and served as JSON that PostgreSQL wrote.

resource.py   the place a read is declared
query.py      the place a request's parameters become a query, and pages are defined
selection.py  its fields and includes
cursor.py     opaque, signed positions in a list
shape.py      all of a query but its values
walk.py       how a page goes through a list: conditions and order
items.py      rows as JSON
compile.py    a resource and the shape of a query become one SQL statement
serve.py      plans a read, makes it, and gives the answer: body, ETag, tags
"""

from dues.reads.query import Query, parse_query
from dues.reads.resource import Computed, Equal, Flag, Many, One, Range, Resource
from dues.reads.serve import Answer, ReadPlan, answer_of, execute, plan_list, plan_one, read_later

__all__ = [
    "Answer",
    "Computed",
    "Equal",
    "Flag",
    "Many",
    "One",
    "Query",
    "Range",
    "ReadPlan",
    "Resource",
    "answer_of",
    "execute",
    "parse_query",
    "plan_list",
    "plan_one",
    "read_later",
]
