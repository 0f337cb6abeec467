"""The API as a process of its own, with PostgreSQL gone, and what it writes into its log."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.api.routes import ENTRIES, PUBLIC, address, caller_of
from tests.api.world import World
from tests.fleet import ROOT, wait_until

GONE = "127.0.0.1:1"


@contextmanager
def running_api(log: Path, **environment: str) -> Iterator[httpx.Client]:
    """The web process as the Procfile has it, and a client."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["granian", "--interface", "wsgi", "--port", str(port), "--no-ws", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--blocking-threads", "2", "automata_signal.wsgi:application"],
        cwd=ROOT,
        env={**os.environ, **{f"API_RATE_{who}_PER_MINUTE": "100000000" for who in _WHO}, **environment},
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            wait_until(lambda: _is_up(client))
            yield client
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_WHO = ("SECRET", "PUBLISHABLE", "DEVICE", "OPERATOR", "ANONYMOUS", "UNAUTHENTICATED", "SIGN_IN")


def _is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def call(client: httpx.Client, world: World, method: str, route: str, **headers: str) -> httpx.Response:
    entry = ENTRIES[method, route]
    caller = caller_of(world, entry)
    body = {} if method in ("GET", "DELETE") else {"json": entry.body(world)}
    return client.request(method, address(route, world.ids), headers={**caller._headers, **headers}, **body)


@pytest.mark.parametrize("cookie", ["", "sessionid=abcdefghijklmnopqrstuvwxyz012345"])
def test_without_postgresql_every_route_asks_to_come_again(world, tmp_path, cookie):
    wrong = {}
    database = f"postgresql://nobody:a-password@{GONE}/nothing"
    with running_api(tmp_path / "log", DATABASE_URL=database, DATABASE_POOL_MAX="0") as client:
        for method, route in ENTRIES:
            answer = call(client, world, method, route, **({"cookie": cookie} if cookie else {}))
            needs_no_rows = PUBLIC in ENTRIES[method, route].scopes and 400 <= answer.status_code < 500
            if needs_no_rows:
                continue
            if answer.status_code != 503 or answer.headers.get("Retry-After") != "5":
                wrong[method, route] = (answer.status_code, answer.text[:300])
            elif answer.json()["error"]["code"] != "UNAVAILABLE":
                wrong[method, route] = answer.text
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/schema/").status_code == 200
    assert not wrong, wrong
    assert "a-password" not in (tmp_path / "log").read_text()


def test_a_pool_without_postgresql_asks_to_come_again_too(world, tmp_path):
    database = f"postgresql://nobody@{GONE}/nothing"
    with running_api(tmp_path / "log", DATABASE_URL=database, DATABASE_POOL_MAX="2") as client:
        answer = call(client, world, "GET", "users")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json()["error"]["code"] == "UNAVAILABLE"
