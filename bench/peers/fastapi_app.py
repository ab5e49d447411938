"""FastAPI as its guide teaches: async SQLAlchemy on asyncpg, pydantic response models, fastapi-cache on Redis."""

import os
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, Request, Response
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from pydantic import BaseModel, ConfigDict
from redis import asyncio as aioredis
from sqlalchemy import BigInteger, DateTime, ForeignKey, Text, Uuid, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, mapped_column, relationship, selectinload

engine = create_async_engine(os.environ["PEER_ASYNC_DATABASE_URL"], pool_size=10)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id = mapped_column(Uuid, primary_key=True)
    name = mapped_column(Text)


class Package(Base):
    __tablename__ = "packages"
    store_id = mapped_column(Uuid)
    id = mapped_column(Uuid, primary_key=True)
    name = mapped_column(Text)
    amount = mapped_column(BigInteger)
    currency = mapped_column(Text)
    interval = mapped_column(Text)


class Payment(Base):
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
    created_at = mapped_column(DateTime(timezone=True))
    updated_at = mapped_column(DateTime(timezone=True))
    user = relationship(User)
    package = relationship(Package)


class UserOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: UUID
    name: str


class PackageOut(UserOut):
    amount: int
    currency: str
    interval: str


class PaymentOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: UUID
    store_id: UUID
    amount: int
    currency: str
    status: str
    description: str
    refunded_amount: int
    version: int
    created_at: datetime
    updated_at: datetime
    user: UserOut
    package: PackageOut


class Page(BaseModel):
    data: list[PaymentOut]
    total: int


redis = aioredis.from_url(os.environ["PEER_REDIS_URL"])


@asynccontextmanager
async def lifespan(app: FastAPI):
    FastAPICache.init(RedisBackend(redis), prefix="fastapi-cache")
    yield


app = FastAPI(lifespan=lifespan)


async def session():
    async with sessions() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


async def page_of_payments(store_id: UUID, session: AsyncSession, page: int):
    mine = select(Payment).where(Payment.store_id == store_id)
    rows = await session.scalars(
        mine.order_by(Payment.created_at.desc(), Payment.id.desc())
        .offset((page - 1) * 20)
        .limit(20)
        .options(selectinload(Payment.user), selectinload(Payment.package))
    )
    total = await session.scalar(select(func.count()).select_from(mine.subquery()))
    return Page(data=rows.all(), total=total)


@app.get("/uncached/stores/{store_id}/payments")
async def payments(store_id: UUID, session: Session, page: int = 1) -> Page:
    return await page_of_payments(store_id, session, page)


@app.get("/cached/stores/{store_id}/payments")
@cache(expire=600)
async def cached_payments(store_id: UUID, page: int = 1) -> Page:
    # A session among the arguments would be part of the cache key, and no answer would ever be found again.
    async with sessions() as session:
        return await page_of_payments(store_id, session, page)


@app.get("/bytes/stores/{store_id}/payments")
async def payments_kept_as_bytes(request: Request, store_id: UUID, page: int = 1) -> Response:
    """The cache-aside pattern of Redis' guide, by hand: the finished answer, cached under its URL."""
    key = f"bytes:{request.url.path}?{request.url.query}"
    body = await redis.get(key)
    if body is None:
        async with sessions() as session:
            body = (await page_of_payments(store_id, session, page)).model_dump_json().encode()
        await redis.set(key, body, ex=600)
    return Response(body, media_type="application/json")
