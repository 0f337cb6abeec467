"""What a benchmark runs on: a database and a Redis of its own, on servers that somebody started."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from psycopg import sql

from tools.supervisor import StackError, Supervisor

MARK = "automata:bench"
"""A key that says that this Redis is ours to empty."""
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


@dataclass(frozen=True)
class Stores:
    database_url: str
    redis_url: str

    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "APPLICATION_NAME": "bench",
            "DATABASE_STATEMENT_TIMEOUT_MS": "60000",
            "FCM_RATE_PER_MINUTE": "60000000",  # Google's quota, 10,000/s, would be what is measured
            "DJANGO_SETTINGS_MODULE": "automata_signal.settings",
        }


@contextmanager
def own_stores(name: str, *, durable: bool) -> Iterator[Stores]:
    """An empty database `name` on the server of DATABASE_URL, and the Redis of REDIS_URL; both are left empty.

    Raises `StackError` if the Redis holds what is not ours, or if the server does not write to the disk as production
    does, unless `durable` is False.
    """
    import os

    server = os.environ["DATABASE_URL"]
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    if client.dbsize() and not client.exists(MARK):
        raise StackError("REDIS_URL names a Redis that is not empty: a benchmark empties it, so give it one of its own")
    client.flushdb()
    client.set(MARK, "1")
    with psycopg.connect(server, autocommit=True) as connection:
        wrong = {} if not durable else {n: v for n in DURABLE if (v := _show(connection, n)) != DURABLE[n]}
        if wrong:
            raise StackError(f"PostgreSQL does not write as production does ({wrong}); see --not-durable")
        connection.execute(_sql("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))
        connection.execute(_sql("CREATE DATABASE {}", name))
        try:
            yield Stores(_of_database(server, name), os.environ["REDIS_URL"])
        finally:
            connection.execute(_sql("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))
            client.flushdb()
            client.close()


def migrate(supervisor: Supervisor) -> None:
    if supervisor.run_foreground([sys.executable, "manage.py", "migrate", "--verbosity", "0"]):
        raise StackError("the database could not be migrated (see above)")


def _sql(text: str, name: str) -> sql.Composed:
    return sql.SQL(text).format(sql.Identifier(name))


def _show(connection: psycopg.Connection[tuple[str, ...]], name: str) -> str:
    row = connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone()
    assert row is not None
    return str(row[0])


def _of_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
