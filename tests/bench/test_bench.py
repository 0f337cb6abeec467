"""The command as it is used, in small: real workers, real providers, figures in a file."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis

from bench.__main__ import PARTS
from tools.supervisor import ROOT
from tools.workspace import LOCAL

GROUPS = ("workers", "control", "PostgreSQL", "Redis", "providers")


def an_empty_redis() -> str:
    """A database of the tests' Redis that nobody uses."""
    parts = urlsplit(os.environ["REDIS_URL"])
    for number in range(15, 0, -1):
        url = urlunsplit(parts._replace(path=f"/{number}"))
        with redis.Redis.from_url(url) as client:
            if not client.dbsize():
                return url
    pytest.skip("every database of this Redis is in use")


@pytest.fixture
def bench(tmp_path):
    """Runs the command in a database of its own; gives its output and the figures by case and metric."""
    database = f"automata_bench_{os.getpid()}"
    redis_url = an_empty_redis()

    def run(*arguments):
        file = tmp_path / "figures.json"
        common = ("--not-durable", "--wait", "0", "--database", database, "--json", str(file))
        result = subprocess.run(
            [sys.executable, "-m", "bench", *arguments, *common],
            cwd=ROOT,
            env={**os.environ, "REDIS_URL": redis_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,  # it took 115 s where twenty others wanted two cores
        )
        figures = json.loads(file.read_text()) if file.exists() else []
        return result, {(row["case"], row["metric"]): row for row in figures}

    yield run
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0, "it leaves its Redis as it was"
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
        assert found is None, "it drops its database"
    shutil.rmtree(LOCAL / "logs" / f"bench-{database}", ignore_errors=True)


@pytest.mark.timeout(270)
def test_a_small_pipeline_from_launch_to_figures(bench):
    case = "personalised, 2 % refused"
    result, figures = bench("pipeline", "--recipients", "2000", "--cases", case)
    assert result.returncode == 0, result.stdout
    assert case in result.stdout
    assert figures[case, "rate"]["value"] > 0
    assert all(figures[case, group]["value"] >= 0 for group in GROUPS)
    assert figures[case, "workers"]["value"] > 1
    assert figures[case, "worker peak"]["value"] > 20
    assert figures[case, "connections"]["value"] >= 1
    assert figures["machine", "postgresql"]["value"]
    assert all(row["met"] is None for row in figures.values()), "without fsync nothing is judged"


def test_a_redis_that_is_not_empty_is_not_emptied(tmp_path):
    url = an_empty_redis()
    with redis.Redis.from_url(url) as client:
        client.set("precious", "1")
        try:
            result = subprocess.run(
                [sys.executable, "-m", "bench", "pipeline", "--not-durable"],
                cwd=ROOT,
                env={**os.environ, "REDIS_URL": url},
                capture_output=True,
                text=True,
            )
            assert result.returncode == 1
            assert "not empty" in result.stderr
            assert client.get("precious") == b"1"
        finally:
            client.delete("precious")


@pytest.mark.parametrize("part", PARTS)
def test_every_part_can_be_loaded_and_run(part):
    assert callable(importlib.import_module(f"bench.{part}").run)


@pytest.mark.parametrize("arguments", [("nonsense",), ("pipeline", "--database", "production")])
def test_what_cannot_be_meant_is_refused(arguments):
    result = subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, env=dict(os.environ)
    )
    assert result.returncode == 2
