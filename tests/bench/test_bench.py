"""The command as it is used, in small: real workers, real providers, figures in a file."""

import importlib
import os
import subprocess
import sys

import pytest
import redis

from bench.__main__ import PARTS
from tools.supervisor import ROOT

GROUPS = ("workers", "control", "PostgreSQL", "Redis", "providers")


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


def test_a_redis_that_is_not_empty_is_not_emptied(tmp_path, empty_redis):
    url = empty_redis
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
