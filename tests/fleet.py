"""A real fleet for tests that go the whole way: Celery workers and beat as processes, on the test database."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.conf import settings
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
T = TypeVar("T")


def test_database_url() -> str:
    """The address of the database that the tests run on, for other processes."""
    server = urlsplit(os.environ["DATABASE_URL"])
    return urlunsplit(server._replace(path=f"/{connection.settings_dict['NAME']}"))


def wait_until(condition: Callable[[], T], *, timeout_s: float = 30.0) -> T:
    """What `condition` gives as soon as it is true. Fails the test when it does not become true in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{condition} did not become true within {timeout_s:.0f} s"
        time.sleep(0.05)
    return value


class Fleet:
    """Worker processes that can be started, killed and started again."""

    def __init__(self, environment: dict[str, str], log_dir: Path) -> None:
        self.environment = environment
        self.log_dir = log_dir
        self.processes: list[subprocess.Popen[bytes]] = []

    def start_worker(self, queues: str, *, concurrency: int = 1) -> subprocess.Popen[bytes]:
        name = f"worker{len(self.processes)}"
        arguments = ["worker", "-Q", queues, "-c", str(concurrency), "-n", f"{name}@%h", "--without-mingle"]
        return self._start(name, [*arguments, "--without-gossip", "-l", "WARNING"])

    def start_beat(self) -> subprocess.Popen[bytes]:
        return self._start("beat", ["beat", "-l", "WARNING", "--pidfile", ""])

    def _start(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        log = (self.log_dir / f"{name}.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "automata_signal", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """`kill -9` of the process and its children, as the kernel would."""
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill(process)


@pytest.fixture
def fleet(transactional_db, apns, fcm, tmp_path):
    """No process yet: the test starts what it needs. The queues are empty."""
    import redis

    broker = redis.Redis.from_url(settings.REDIS_URL)
    broker.flushdb()
    environment = {
        **os.environ,
        "DATABASE_URL": test_database_url(),
        "APNS_URL": settings.APNS_URL,
        "APNS_SANDBOX_URL": settings.APNS_SANDBOX_URL,
        "FCM_URL": settings.FCM_URL,
        "FCM_TOKEN_URL": settings.FCM_TOKEN_URL,
        "PROVIDER_CA_FILE": settings.PROVIDER_CA_FILE,
        "BATCH_LEASE_S": "5",
    }
    fleet = Fleet(environment, tmp_path)
    yield fleet
    fleet.stop()
    broker.flushdb()
