"""The timeline of microblog-api, a well-known teaching API with posts and follows: Flask, SQLAlchemy 2, marshmallow; a
select that joins the author's followers and groups by post, a count, and pages by offset. Cached with Flask-Caching.

The original has no likes and no privacy settings. Here it shows what the other newsfeeds show, reading relationships as
that project does.
"""

import os

import redis
from flask import Flask, Response, jsonify, request
from flask_caching import Cache
from flask_sqlalchemy import SQLAlchemy
from marshmallow import Schema, fields
from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Table, Text, Uuid, exists, func, or_, select
from sqlalchemy.orm import DeclarativeBase, aliased, mapped_column, relationship


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

follows = Table(
    "follows",
    Base.metadata,
    Column("follower_id", ForeignKey("users.id"), primary_key=True),
    Column("followed_id", ForeignKey("users.id"), primary_key=True),
)


class User(db.Model):
    __tablename__ = "users"
    id = mapped_column(Uuid, primary_key=True)
    name = mapped_column(Text)
    followers = relationship(
        "User",
        secondary=follows,
        primaryjoin=lambda: follows.c.followed_id == User.id,
        secondaryjoin=lambda: follows.c.follower_id == User.id,
        viewonly=True,
    )


class PostStats(db.Model):
    __tablename__ = "post_stats"
    post_id = mapped_column(Uuid, ForeignKey("posts.id"), primary_key=True)
    likes = mapped_column(BigInteger)
    comments = mapped_column(BigInteger)


class Like(db.Model):
    __tablename__ = "likes"
    post_id = mapped_column(Uuid, ForeignKey("posts.id"), primary_key=True)
    user_id = mapped_column(Uuid, primary_key=True)


class Post(db.Model):
    __tablename__ = "posts"
    id = mapped_column(Uuid, primary_key=True)
    author_id = mapped_column(Uuid, ForeignKey("users.id"))
    title = mapped_column(Text)
    body = mapped_column(Text)
    privacy = mapped_column(Text)
    status = mapped_column(Text)
    created_at = mapped_column(DateTime(timezone=True))
    author = relationship(User)
    stats = relationship(PostStats, uselist=False)


class AuthorSchema(Schema):
    id = fields.UUID()
    name = fields.String()


class PostSchema(Schema):
    id = fields.UUID()
    title = fields.String()
    body = fields.String()
    privacy = fields.String()
    created_at = fields.DateTime()
    author = fields.Nested(AuthorSchema)
    likes_count = fields.Integer(attribute="stats.likes")
    comments_count = fields.Integer(attribute="stats.comments")
    liked_by_me = fields.Boolean()


posts_schema = PostSchema(many=True)


def timeline_select(reader):
    """Posts whose author the reader follows, and the reader's own."""
    author, follower = aliased(User), aliased(User)
    return (
        select(Post)
        .join(Post.author.of_type(author))
        .join(author.followers.of_type(follower), isouter=True)
        .where(Post.status == "published", Post.privacy.in_(["public", "followers"]))
        .where(or_(Post.author_id == reader, follower.id == reader))
        .group_by(Post)
    )


def timeline(reader):
    query = timeline_select(reader)
    total = db.session.scalar(select(func.count()).select_from(query.subquery()))
    offset = request.args.get("offset", 0, int)
    page = query.order_by(Post.created_at.desc()).limit(20).offset(offset)
    posts = db.session.scalars(page).all()
    for post in posts:
        liked = exists().where(Like.post_id == post.id, Like.user_id == reader)
        post.liked_by_me = db.session.scalar(select(liked))
    pagination = {"offset": offset, "count": len(posts), "total": total}
    return jsonify({"data": posts_schema.dump(posts), "pagination": pagination})


@app.get("/uncached/newsfeed/<uuid:reader>")
def newsfeed(reader):
    return timeline(reader)


@app.get("/cached/newsfeed/<uuid:reader>")
@cache.cached(timeout=600, query_string=True)
def cached_newsfeed(reader):
    return timeline(reader)


@app.get("/bytes/newsfeed/<uuid:reader>")
def newsfeed_kept_as_bytes(reader):
    """The cache-aside pattern of Redis' guide, by hand: the finished answer, cached under its URL."""
    key = f"bytes:{request.full_path}"
    body = kept.get(key)
    if body is None:
        body = timeline(reader).data
        kept.set(key, body, ex=600)
    return Response(body, mimetype="application/json")
