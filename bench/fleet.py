"""The processes of one case: providers, and workers as production starts them."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import redis

from apps.sandbox.authority import ensure_authority
from apps.sandbox.client import ControlClient
from apps.sandbox.credentials import FcmAccount
from bench.accounting import peak_rss_mb, tree
from tools.processes import PROVIDERS, provider, python_module, queues, worker
from tools.services import free_ports
from tools.stack import accepts
from tools.supervisor import Child, ProcessSpec, Supervisor

if TYPE_CHECKING:
    from bench.standin import StandIn

READY_S = 60.0


@dataclass(frozen=True)
class Behaviour:
    """How the providers answer."""

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    refuse_share: float = 0.0
    """Of all messages, at random, as unregistered."""

    def arguments(self) -> tuple[str, ...]:
        return (
            *("--latency-ms", str(self.latency_ms), "--jitter-ms", str(self.jitter_ms)),
            *("--refuse-share", str(self.refuse_share)),
        )


class Tally(NamedTuple):
    """What a provider has answered."""

    accepted: int
    refused: int
    connections: int


class Providers:
    """APNs and FCM by `bench.provider`, a process each, and the strict FCM stand-in as the token endpoint."""

    def __init__(self, supervisor: Supervisor, ca_dir: Path) -> None:
        self._supervisor = supervisor
        self._ca_dir = ca_dir
        self.metrics_dir = ca_dir.parent / "metrics"
        self.ca_file = ensure_authority(ca_dir).ca_file
        self._token_port, self._control_port = free_ports(2)
        self.children: dict[str, Child] = {}
        self._ports: dict[str, tuple[int, int]] = {}

    def start_token_endpoint(self, account: FcmAccount) -> None:
        ports = (f"--port={self._token_port}", f"--control-port={self._control_port}")
        spec = provider("fcm", *ports, ca_dir=self._ca_dir)
        self._supervisor.start(replace(spec, env={**spec.env, "AUTOMATA_SANDBOX": "1"}))
        self._wait_for(self._control_port, "The token endpoint")
        control = ControlClient(f"http://127.0.0.1:{self._control_port}")
        control.register_keys(account.registration())
        control.close()

    def start(self, behaviour: Behaviour) -> None:
        for name in ("apns", "fcm"):
            port, stats_port = self._ports[name] = tuple(free_ports(2))  # type: ignore[assignment]
            self.children[name] = self._supervisor.start(
                python_module(
                    f"bench-{name}",
                    *("bench.provider", name, "--ca-dir", str(self._ca_dir)),
                    *("--port", str(port), "--stats-port", str(stats_port), *behaviour.arguments()),
                    stage=PROVIDERS,
                )
            )
        for port, _ in self._ports.values():
            self._wait_for(port, "A provider")

    def stop(self) -> None:
        for child in self.children.values():
            self._supervisor.stop_child(child)
        self.children = {}

    def url(self, name: str) -> str:
        return f"https://localhost:{self._ports[name][0]}"

    def tally(self, name: str) -> Tally:
        with socket.create_connection(("127.0.0.1", self._ports[name][1]), timeout=10) as connection:
            return Tally(**json.loads(connection.makefile().readline()))

    def seen(self, name: str) -> dict[str, float]:
        """When each marked message came to the provider (`bench.provider.MARK`), by the monotonic clock."""
        with socket.create_connection(("127.0.0.1", self._ports[name][1]), timeout=10) as connection:
            _counts, marks = connection.makefile()
            return dict(json.loads(marks))

    def answered(self) -> int:
        return sum(tally.accepted + tally.refused for tally in map(self.tally, self.children))

    def environment(self) -> dict[str, str]:
        """What workers find them by."""
        return {
            "APNS_URL": self.url("apns"),
            "APNS_SANDBOX_URL": self.url("apns"),
            "FCM_URL": self.url("fcm"),
            "FCM_TOKEN_URL": f"https://localhost:{self._token_port}/token",
            "PROVIDER_CA_FILE": str(self.ca_file),
        }

    def _wait_for(self, port: int, what: str) -> None:
        self._supervisor.wait_until(lambda: accepts(port), timeout_s=READY_S, what=what)


def counting_worker(providers: Providers | StandIn, name: str, queue_names: str, concurrency: int) -> ProcessSpec:
    """A worker that keeps its metrics, as in production."""
    (port,) = free_ports(1)
    return worker(name, queue_names, concurrency, metrics_dir=providers.metrics_dir, metrics_port=port)


class Fleet:
    """Use as a context manager: providers that behave so, and `workers` processes for bulk, one for control, and beat.

    Ready when every worker has said that it is.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        providers: Providers | StandIn,
        redis_url: str,
        *,
        behaviour: Behaviour | None = None,
        workers: int = 2,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._supervisor, self._redis_url = supervisor, redis_url
        self.providers, self.behaviour, self.workers = providers, behaviour or Behaviour(), workers
        self._env = dict(env or {})
        self.bulk: list[Child] = []
        self.control: list[Child] = []

    def __enter__(self) -> Self:
        self.providers.start(self.behaviour)
        env = {**self.providers.environment(), **self._env}
        specs = [counting_worker(self.providers, "bulk", queues("medium", "low"), self.workers)] if self.workers else []
        beat = ("celery", "--skip-checks", "-A", "automata_signal", "beat", "--loglevel", "INFO", "--pidfile=")
        specs += [counting_worker(self.providers, "control", "control", 1), python_module("beat", *beat)]
        for spec in specs:
            child = self._supervisor.start(replace(spec, env={**spec.env, **env}))
            (self.bulk if spec.name == "bulk" else self.control).append(child)
        try:
            self._supervisor.wait_until(self._is_listening, timeout_s=READY_S, what="The workers")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for child in [*self.bulk, *self.control]:
            self._supervisor.stop_child(child)
        self.providers.stop()

    def _is_listening(self) -> bool:
        """Whether each worker hears its mailbox: Celery's sign of life, which needs no task."""
        client = redis.Redis.from_url(self._redis_url)
        try:
            return len(client.smembers("_kombu.binding.celery.pidbox")) >= len(self.bulk) + 1
        finally:
            client.close()

    def groups(self) -> dict[str, list[int]]:
        """The roots of the process trees whose CPU is counted."""
        return {
            "workers": [child.process.pid for child in self.bulk],
            "control": [child.process.pid for child in self.control],
            "providers": [child.process.pid for child in self.providers.children.values()],
        }

    def worker_processes(self) -> list[int]:
        """The pool processes that send; without their parents."""
        return [pid for child in self.bulk for pid in tree([child.process.pid])[1:]]

    def peak_rss_mb(self) -> float:
        """Of the largest worker process."""
        return max(map(peak_rss_mb, self.worker_processes()), default=0.0)
