"""A whole platform of its own that may be broken: PostgreSQL, Redis, web, workers, beat and both stand-in providers.

Nothing is shared with the session's services. Whatever is killed comes back as production brings it back: `keep_up`
starts what ended again, as a supervisor does (`restart: unless-stopped`, systemd), and does nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import redis
from psycopg.rows import dict_row

from apps.sandbox.client import ControlClient
from apps.sandbox.credentials import make_apns_key, make_fcm_account
from tools.services import free_ports, leftovers, start_postgres, start_redis
from tools.stack import accepts, answers
from tools.supervisor import ROOT, Child, ProcessSpec, Supervisor
from tools.workspace import new_secrets

BUNDLE_ID = "com.example.shop"
BULK_QUEUES = "push.medium,push.low"
WEB_THREADS = 4
T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    """How much is at stake, and the settings that make a campaign of that size last some seconds."""

    recipients: int
    singles_per_s: float
    latency_ms: int
    settings: Mapping[str, str]
    """Environment of the platform's processes."""
    workers: int = 2
    """Processes that send in bulk; one for single messages and one for control come on top."""
    high_concurrency: int = 1

    @property
    def streams_in_flight(self) -> int:
        """Requests that can be on the wire at a moment, all workers together."""
        connections = int(self.settings["PROVIDER_CONNECTIONS"])
        return (self.workers + self.high_concurrency) * connections * int(self.settings["PROVIDER_STREAMS"])


QUICK = Size(
    recipients=3_000,
    singles_per_s=4,
    latency_ms=120,
    settings={
        "BATCH_SIZE": "250",
        "BATCH_LEASE_S": "8",
        "PROVIDER_CONNECTIONS": "1",
        "PROVIDER_STREAMS": "50",
        "PROVIDER_TIMEOUT_S": "5",
        "BREAKER_COOLDOWN_S": "3",
    },
)
FULL = Size(
    recipients=50_000,
    singles_per_s=12,
    latency_ms=100,
    settings={"BATCH_SIZE": "1000", "BATCH_LEASE_S": "20", "PROVIDER_TIMEOUT_S": "5"}
    | {"PROVIDER_CONNECTIONS": "2", "PROVIDER_STREAMS": "100", "BREAKER_COOLDOWN_S": "5"},
    high_concurrency=2,
)


NEVER_S = 180.0
"""A bound on what takes seconds, for the case that it never comes: far enough for a machine that is busy otherwise."""


class Failed(AssertionError):
    """A promise was broken, or something did not happen in time."""


def wait_until(condition: Callable[[], T], *, timeout_s: float, what: str, meanwhile: Callable[[], None]) -> T:
    """What `condition` gives as soon as it is true. Raises `Failed` when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {timeout_s:.0f} s")
        meanwhile()
        time.sleep(0.05)
    return value


@dataclass
class Provider:
    """One stand-in at an address that stays; the process behind it may be exchanged. Remembers what each one took."""

    name: str
    ports: dict[str, int]
    ca_dir: Path
    registration: Mapping[str, Any]
    child: Child | None = None
    taken_before: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.control = ControlClient(f"http://127.0.0.1:{self.ports['control']}")

    def spec(self, ca_dir: Path, *arguments: str) -> ProcessSpec:
        ports = [f"--port={self.ports['port']}", f"--control-port={self.ports['control']}"]
        command = ("-m", "apps.sandbox", self.name, *ports, "--ca-dir", str(ca_dir), *arguments)
        return ProcessSpec(self.name, (sys.executable, *command), {"AUTOMATA_SANDBOX": "1"}, stage=1)

    def accepted(self) -> list[dict[str, Any]]:
        """Every request that was taken, with its message id and headers."""
        return self.taken_before + [e for e in self.control.entries() if e["outcome"] == "accepted"]


class Stack:
    """The running platform. Use as a context manager."""

    def __init__(self, size: Size, *, durable: bool = False) -> None:
        self.size = size
        self.durable = durable
        self.name = f"faults-{os.getpid()}-{secrets.token_hex(2)}"
        self.restarted: list[str] = []
        """Names of processes that ended by themselves and were started again."""
        self._kept: dict[str, ProcessSpec] = {}
        self._restart_at: dict[str, float] = {}

    # --- Life ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Stack:
        self._ending = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def _start(self) -> None:
        self.folder = Path(self._ending.enter_context(tempfile.TemporaryDirectory(prefix="automata-faults-")))
        dropped = ("DATABASE_URL", "REDIS_URL", "PYTHONDONTWRITEBYTECODE", "DATABASE_POOL_MAX")
        env = {name: value for name, value in os.environ.items() if name not in dropped}
        env.setdefault("PYTHONPYCACHEPREFIX", str(self.folder / "pycache"))
        env |= new_secrets() | {"AUTOMATA_ENV": "test", "AUTOMATA_SANDBOX": "1", "PYTHONUNBUFFERED": "1"}
        env |= {"DJANGO_SETTINGS_MODULE": "automata_signal.settings", "LOG_LEVEL": "INFO", **self.size.settings}
        self.signs = self.folder / "signs"
        """What is wrong for the platform's processes (`injected/sitecustomize.py`)."""
        self.signs.mkdir()
        env |= {"FAULTS": str(self.signs), "PYTHONPATH": str(Path(__file__).with_name("injected"))}
        self.supervisor = self._ending.enter_context(Supervisor(self.folder / "logs", env=env))
        self.supervisor.env["DATABASE_URL"] = start_postgres(self.supervisor, self.name, durable=self.durable)
        for folder in leftovers(self.name):
            self.supervisor.remove_at_end(folder)
        self.supervisor.env["REDIS_URL"] = start_redis(self.supervisor)
        self._start_providers()
        self._manage("migrate", "--verbosity", "0")
        seeded = self._seed()
        self.application, self.key, self.singles = seeded["application"], seeded["key"], seeded["singles"]
        self._start_platform()
        self.wait_ready()

    def _start_providers(self) -> None:
        self.ca_dir = self.folder / "ca"
        self.ca_dir.mkdir(mode=0o700)
        apns_port, apns_control, fcm_port, fcm_control, self.web_port = free_ports(5)
        self.apns_key = make_apns_key([BUNDLE_ID])
        fcm_url = f"https://localhost:{fcm_port}"
        self.fcm_account = make_fcm_account("demo-shop", f"{fcm_url}/token")
        self.apns = Provider(
            "apns", {"port": apns_port, "control": apns_control}, self.ca_dir, self.apns_key.registration()
        )
        self.fcm = Provider(
            "fcm", {"port": fcm_port, "control": fcm_control}, self.ca_dir, self.fcm_account.registration()
        )
        for provider in self.providers:
            self.start_provider(provider)
        self.supervisor.env |= {
            "APNS_URL": f"https://localhost:{apns_port}",
            "APNS_SANDBOX_URL": f"https://localhost:{apns_port}",
            "FCM_URL": fcm_url,
            "FCM_TOKEN_URL": f"{fcm_url}/token",
            "PROVIDER_CA_FILE": str(self.ca_dir / "ca.pem"),
            "ALLOWED_HOSTS": "127.0.0.1",
        }

    @property
    def providers(self) -> tuple[Provider, Provider]:
        return self.apns, self.fcm

    def start_provider(
        self, provider: Provider, *, ca_dir: Path | None = None, arguments: tuple[str, ...] = ()
    ) -> None:
        """Start its process, with another authority's certificate if told, and tell it what it knew."""
        provider.child = self.supervisor.start(provider.spec(ca_dir or provider.ca_dir, *arguments))
        self.wait_until(lambda: accepts(provider.ports["control"]), NEVER_S, f"{provider.name} listens")
        provider.control.close()
        provider.control.register_keys(provider.registration)

    def stop_provider(self, provider: Provider) -> None:
        """`kill -9`; what it had taken is remembered."""
        assert provider.child is not None
        provider.taken_before = provider.accepted()
        self.kill(provider.child)

    def _manage(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.supervisor.env, capture_output=True, text=True
        )
        if done.returncode:
            raise Failed(f"manage.py {arguments[0]}: {done.stderr[-2_000:]}")

    def _seed(self) -> dict[str, Any]:
        apns = {
            "team_id": self.apns_key.team_id,
            "key_id": self.apns_key.key_id,
            "private_key": self.apns_key.p8,
            "bundle_id": BUNDLE_ID,
            "environment": "both",
        }
        fcm = {"service_account": self.fcm_account.service_account}
        order = {"recipients": self.size.recipients, "secrets": {"apns": apns, "fcm": fcm}}
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.seed"],
            input=json.dumps(order),
            cwd=ROOT,
            env=self.supervisor.env,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Failed(f"seeding failed: {done.stderr[-2_000:]}")
        seeded: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return seeded

    # --- The platform's processes --------------------------------------------------------------------------------

    def _start_platform(self) -> None:
        self.keep(self._web())
        for number in range(self.size.workers):
            self.keep(self.worker(f"push{number}", BULK_QUEUES))
        self.keep(self.worker("high", "push.high", self.size.high_concurrency))
        self.keep(self.worker("control", "control"))
        self.keep(self.beat())

    def _web(self) -> ProcessSpec:
        granian = (
            "-m",
            "granian",
            "--interface",
            "wsgi",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.web_port),
            "--no-ws",
        )
        pool = ("--workers", "1", "--blocking-threads", str(WEB_THREADS), "--respawn-failed-workers")
        return ProcessSpec(
            "web",
            (sys.executable, *granian, *pool, "automata_signal.wsgi:application"),
            {"DATABASE_POOL_MAX": str(WEB_THREADS), "APPLICATION_NAME": "automata-web"},
            stage=2,
        )

    @staticmethod
    def worker(name: str, queues: str, concurrency: int = 1) -> ProcessSpec:
        celery = ("-m", "celery", "--skip-checks", "-A", "automata_signal", "worker", "--loglevel", "INFO")
        options = ("--without-gossip", "--without-mingle", "--hostname", f"{name}@%h", "-c", str(concurrency))
        own = {"APPLICATION_NAME": f"automata-{name}"}
        return ProcessSpec(name, (sys.executable, *celery, *options, "-Q", queues), own, stage=2, grace_s=20.0)

    @staticmethod
    def beat(name: str = "beat") -> ProcessSpec:
        celery = ("-m", "celery", "--skip-checks", "-A", "automata_signal", "beat", "--loglevel", "INFO", "--pidfile=")
        return ProcessSpec(name, (sys.executable, *celery), {"APPLICATION_NAME": f"automata-{name}"}, stage=2)

    def keep(self, spec: ProcessSpec) -> Child:
        """Start it, and start it again whenever it ends."""
        self._kept[spec.name] = spec
        return self.supervisor.start(spec)

    def give_up(self, name: str) -> None:
        """End a process that `keep` started, for good."""
        del self._kept[name]
        if (child := self.find(name)) is not None:
            self.supervisor.stop_child(child)

    @property
    def restart_pending(self) -> bool:
        """Whether something that ended is not started again yet."""
        return bool(self._restart_at)

    def keep_up(self) -> None:
        """Start what ended again, a second later: what any supervisor does."""
        now = time.monotonic()
        for child in self.supervisor.ended():
            if child.spec.name in self._kept:
                self._restart_at[child.spec.name] = now + 1.0
        for name in [name for name, at in self._restart_at.items() if at <= now]:
            del self._restart_at[name]
            if name in self._kept:
                self.restarted.append(name)
                self.supervisor.start(self._kept[name])

    def find(self, name: str) -> Child | None:
        return next((c for c in self.supervisor.children if c.spec.name == name and c.is_running()), None)

    def process(self, name: str) -> Child:
        child = self.find(name)
        if child is None:
            raise Failed(f"{name} does not run")
        return child

    @property
    def senders(self) -> list[str]:
        return [*(f"push{number}" for number in range(self.size.workers)), "high"]

    def kill(self, child: Child) -> None:
        """`kill -9` of the process and all of its group, at once."""
        child.kill_group()
        child.process.wait()
        self.keep_up()

    def wait_until(
        self, condition: Callable[[], T], timeout_s: float, what: str, meanwhile: Callable[[], None] | None = None
    ) -> T:
        """`Failed` after `timeout_s`. What ends is started again meanwhile."""

        def tick() -> None:
            self.keep_up()
            if meanwhile is not None:
                meanwhile()

        return wait_until(condition, timeout_s=timeout_s, what=what, meanwhile=tick)

    def wait_ready(self) -> None:
        self.wait_until(lambda: not self.restart_pending, NEVER_S, "everything is started again")
        self.wait_until(lambda: answers(f"http://127.0.0.1:{self.web_port}/readyz"), NEVER_S, "the web is ready")
        for name in (*self.senders, "control"):
            self.wait_until(partial(self._consumes, name), NEVER_S, f"{name} is ready")

    def _consumes(self, name: str) -> bool:
        """Its log says so, after whatever it said before it was started last."""
        child = self.find(name)
        return child is not None and " ready." in child.log.read_text(errors="replace").rpartition("broker_url")[2]

    def log_of(self, name: str) -> str:
        path = self.supervisor.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # --- PostgreSQL and Redis ------------------------------------------------------------------------------------

    @contextmanager
    def database(self, **options: Any) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        url = self.supervisor.env["DATABASE_URL"]
        with psycopg.connect(url, autocommit=True, row_factory=dict_row, **options) as connection:
            yield connection

    def rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        with self.database() as connection:
            return connection.execute(sql, parameters).fetchall()

    def execute(self, sql: str, *parameters: Any) -> int:
        """How many rows it touched."""
        with self.database() as connection:
            return connection.execute(sql, parameters).rowcount

    def value(self, sql: str, *parameters: Any) -> Any:
        return next(iter(self.rows(sql, *parameters)[0].values()))

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.supervisor.env["REDIS_URL"], socket_timeout=5)

    def stop_postgres(self) -> ProcessSpec:
        """Immediate mode: no goodbye and no checkpoint; what to `start_again`."""
        child = self.process("postgres")
        child.process.send_signal(signal.SIGQUIT)
        child.process.wait(timeout=NEVER_S)
        self.supervisor.ended()
        return child.spec

    def stop_redis(self) -> ProcessSpec:
        child = self.process("redis")
        self.kill(child)
        return child.spec

    def start_again(self, spec: ProcessSpec) -> None:
        self.supervisor.start(spec)
        probe = self._database_answers if spec.name == "postgres" else self._redis_answers
        self.wait_until(probe, NEVER_S, f"{spec.name} answers")

    def _database_answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            return bool(self.value("SELECT 1"))
        return False

    def _redis_answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.redis().ping())
        return False
