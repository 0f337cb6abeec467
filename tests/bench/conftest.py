"""The bench command, run as it is used."""

import json
import os
import shutil
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis

from tools.supervisor import ROOT
from tools.workspace import LOCAL


@pytest.fixture
def empty_redis() -> str:
    """A database of the tests' Redis that nobody uses."""
    parts = urlsplit(os.environ["REDIS_URL"])
    for number in range(15, 0, -1):
        url = urlunsplit(parts._replace(path=f"/{number}"))
        with redis.Redis.from_url(url) as client:
            if not client.dbsize():
                return url
    pytest.fail("every database of this Redis is in use")


@pytest.fixture
def bench(tmp_path, empty_redis):
    """Runs the command in a database of its own; gives its output and the figures by case and metric."""
    database = f"automata_bench_{os.getpid()}"

    def run(*arguments):
        file = tmp_path / "figures.json"
        common = ("--not-durable", "--wait", "0", "--database", database, "--json", str(file))
        result = subprocess.run(
            [sys.executable, "-m", "bench", *arguments, *common],
            cwd=ROOT,
            env={**os.environ, "REDIS_URL": empty_redis},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,  # it took 115 s where twenty others wanted two cores
        )
        figures = json.loads(file.read_text()) if file.exists() else []
        return result, {(row["case"], row["metric"]): row for row in figures}

    yield run
    with redis.Redis.from_url(empty_redis) as client:
        assert client.dbsize() == 0, "it leaves its Redis as it was"
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
        assert found is None, "it drops its database"
    shutil.rmtree(LOCAL / "logs" / f"bench-{database}", ignore_errors=True)
