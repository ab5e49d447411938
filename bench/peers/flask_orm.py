"""Flask as the guides of its extensions teach: Flask-SQLAlchemy models with selectinload, Flask-Caching's `@cached`."""

import os

import redis
from flask import Flask, Response, jsonify, request
from flask_caching import Cache
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import BigInteger, ForeignKey, Text, Uuid, select
from sqlalchemy.orm import DeclarativeBase, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["PEER_DATABASE_URL"]
app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 10}
app.config["CACHE_TYPE"] = "RedisCache"
app.config["CACHE_REDIS_URL"] = os.environ["PEER_REDIS_URL"]
db = SQLAlchemy(app, model_class=Base)
cache = Cache(app)
kept = redis.Redis.from_url(os.environ["PEER_REDIS_URL"])


class User(db.Model):
    __tablename__ = "users"
    id = mapped_column(Uuid, primary_key=True)
    name = mapped_column(Text)


class Package(db.Model):
    __tablename__ = "packages"
    store_id = mapped_column(Uuid)
    id = mapped_column(Uuid, primary_key=True)
    name = mapped_column(Text)
    amount = mapped_column(BigInteger)
    currency = mapped_column(Text)
    interval = mapped_column(Text)


class Payment(db.Model):
    __tablename__ = "payments"
    store_id = mapped_column(Uuid)
    id = mapped_column(Uuid, primary_key=True)
    user_id = mapped_column(Uuid, ForeignKey("users.id"))
    package_id = mapped_column(Uuid, ForeignKey("packages.id"))
    amount = mapped_column(BigInteger)
    currency = mapped_column(Text)
    status = mapped_column(Text)
    description = mapped_column(Text)
    refunded_amount = mapped_column(BigInteger)
    version = mapped_column(BigInteger)
    created_at = mapped_column(db.DateTime(timezone=True))
    updated_at = mapped_column(db.DateTime(timezone=True))
    user = relationship(User)
    package = relationship(Package)


def as_json(payment):
    return {
        "id": str(payment.id),
        "store_id": str(payment.store_id),
        "amount": payment.amount,
        "currency": payment.currency,
        "status": payment.status,
        "description": payment.description,
        "refunded_amount": payment.refunded_amount,
        "version": payment.version,
        "created_at": payment.created_at.isoformat(),
        "updated_at": payment.updated_at.isoformat(),
        "user": {"id": str(payment.user.id), "name": payment.user.name},
        "package": {
            "id": str(payment.package.id),
            "name": payment.package.name,
            "amount": payment.package.amount,
            "currency": payment.package.currency,
            "interval": payment.package.interval,
        },
    }


def page_of_payments(store_id):
    query = (
        select(Payment)
        .where(Payment.store_id == store_id)
        .order_by(Payment.created_at.desc(), Payment.id.desc())
        .options(selectinload(Payment.user), selectinload(Payment.package))
    )
    page = db.paginate(query, page=request.args.get("page", 1, int), per_page=20)
    return jsonify({"data": [as_json(payment) for payment in page], "page": page.page, "total": page.total})


@app.get("/uncached/stores/<uuid:store_id>/payments")
def payments(store_id):
    return page_of_payments(store_id)


@app.get("/cached/stores/<uuid:store_id>/payments")
@cache.cached(timeout=600, query_string=True)
def cached_payments(store_id):
    return page_of_payments(store_id)


@app.get("/bytes/stores/<uuid:store_id>/payments")
def payments_kept_as_bytes(store_id):
    """The cache-aside pattern of Redis' guide, by hand: the finished answer, cached under its URL."""
    key = f"bytes:{request.full_path}"
    body = kept.get(key)
    if body is None:
        body = page_of_payments(store_id).data
        kept.set(key, body, ex=600)
    return Response(body, mimetype="application/json")
