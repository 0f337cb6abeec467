"""The API as a process of its own, with Redis gone, with PostgreSQL gone, and what it writes into its log."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password

from apps.tenants.models import Operator
from tests import fleet
from tests.api.routes import ENTRIES, PUBLIC, address, caller_of
from tests.api.world import PASSWORD, World, make_world
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


def _let_sign_in(world: World) -> None:
    """The process knows nothing of the tests' quick passwords."""
    if not Operator.objects.filter(password__startswith="pbkdf2").exists():
        Operator.objects.filter(email=world.email).update(password=make_password(PASSWORD, hasher=HASHER))


HASHER = PBKDF2PasswordHasher()


def call(client: httpx.Client, world: World, method: str, route: str, **headers: str) -> httpx.Response:
    entry = ENTRIES[method, route]
    caller = caller_of(world, entry)
    body = {} if method in ("GET", "DELETE") else {"json": entry.body(world)}
    return client.request(method, address(route, world.ids), headers={**caller._headers, **headers}, **body)


def test_without_redis_every_route_works_and_the_log_tells_nothing_of_anybody(transactional_db, tmp_path):
    wrong, worlds = {}, []
    with running_api(
        tmp_path / "log", DATABASE_URL=fleet.test_database_url(), REDIS_URL=f"redis://{GONE}/0", LOG_LEVEL="INFO"
    ) as client:
        for number, (method, route) in enumerate(ENTRIES):
            world = make_world(f"world-{number}-of-somebody")
            worlds.append(world)
            _let_sign_in(world)
            started = time.monotonic()
            answer = call(client, world, method, route)
            # An e-mail has no other way than the queue.
            expected = (503,) if route == "auth/password-reset" else ENTRIES[method, route].answers
            if answer.status_code not in expected or time.monotonic() - started > 5:
                wrong[method, route] = (answer.status_code, time.monotonic() - started, answer.text[:300])
            if answer.status_code == 503:
                assert answer.headers["Retry-After"] == "5"
        stranger = worlds[0]
        missing = client.get(
            "/api/v1/users/by-external-id?external_id=%2B821012345678", headers=stranger.server._headers
        )
        assert missing.status_code == 404
        checks = client.get("/readyz").json()["checks"]
        assert (checks["postgresql"], checks["redis"]) == (True, False)
    assert not wrong, wrong
    log = (tmp_path / "log").read_text()
    for world in worlds:
        for secret in (world.server, world.sdk, world.owner, world.revoked):
            assert secret._headers["authorization"].removeprefix("Bearer ") not in log
        assert world.handle not in log
        assert world.external_id not in log
        assert world.email not in log
    assert "821012345678" not in log


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
