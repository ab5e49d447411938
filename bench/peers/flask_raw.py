"""The best hand-written endpoint: Flask, a pool of psycopg2 connections, one statement that writes the JSON itself.

It checks no token, counts nothing, and knows just this one list.
"""

import os
import threading

import psycopg2
from flask import Flask, Response

app = Flask(__name__)
_local = threading.local()

SQL = """
select '{"data":' || coalesce(json_agg(row_to_json(d)), '[]') || '}' from (
    select t.id, t.store_id, t.amount, t.currency, t.status, t.description, t.refunded_amount, t.version,
        t.created_at, t.updated_at,
        (select row_to_json(u) from (select u.id, u.name from users u where u.id = t.user_id) u) as "user",
        (select row_to_json(p) from (select p.id, p.name, p.amount, p.currency, p.interval
            from packages p where p.store_id = t.store_id and p.id = t.package_id) p) as package
    from payments t where t.store_id = %s order by t.created_at desc, t.id desc limit 20
) d
"""


def connection():
    if not hasattr(_local, "connection"):
        url = os.environ["PEER_DATABASE_URL"].replace("postgresql+psycopg2", "postgresql")
        _local.connection = psycopg2.connect(url)
        _local.connection.autocommit = True
    return _local.connection


@app.get("/uncached/stores/<store_id>/payments")
def payments(store_id):
    with connection().cursor() as cursor:
        cursor.execute(SQL, (store_id,))
        return Response(cursor.fetchone()[0], mimetype="application/json")
