"""The best hand-written endpoint: Flask, psycopg2 connections, one statement that produces the JSON itself.

It checks no token, and has only this one list: with its total, and without.
"""

import os
import threading

import psycopg2
from flask import Flask, Response

app = Flask(__name__)
_local = threading.local()

ROWS = """
    select t.id, t.store_id, t.amount, t.currency, t.status, t.description, t.refunded_amount, t.version,
        t.created_at, t.updated_at,
        (select row_to_json(u) from (select u.id, u.name from users u where u.id = t.user_id) u) as "user",
        (select row_to_json(p) from (select p.id, p.name, p.amount, p.currency, p.interval
            from packages p where p.store_id = t.store_id and p.id = t.package_id) p) as package
    from payments t where t.store_id = %(store_id)s order by t.created_at desc, t.id desc limit 20
"""
UNCOUNTED = f"""select '{{"data":' || coalesce(json_agg(row_to_json(d)), '[]') || '}}' from ({ROWS}) d"""
COUNTED = f"""
select '{{"data":' || coalesce(json_agg(row_to_json(d)), '[]') || ',"total":'
    || (select count(*) from payments where store_id = %(store_id)s) || '}}' from ({ROWS}) d
"""


def connection():
    if not hasattr(_local, "connection"):
        url = os.environ["PEER_DATABASE_URL"].replace("postgresql+psycopg2", "postgresql")
        _local.connection = psycopg2.connect(url)
        _local.connection.autocommit = True
    return _local.connection


def answer(sql, store_id):
    with connection().cursor() as cursor:
        cursor.execute(sql, {"store_id": store_id})
        return Response(cursor.fetchone()[0], mimetype="application/json")


@app.get("/uncached/stores/<store_id>/payments")
def payments(store_id):
    return answer(COUNTED, store_id)


@app.get("/uncounted/stores/<store_id>/payments")
def uncounted_payments(store_id):
    return answer(UNCOUNTED, store_id)
