"""The processes of the demo, as a table: what production starts from the Procfile, next to stand-in providers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.supervisor import ProcessSpec

CHANNELS = ("push", "email", "sms", "kakao", "in_app")
WEB_THREADS = 4
PROVIDERS, APPLICATION = 1, 2
"""Stages: the providers stop after the workers that talk to them, PostgreSQL and Redis (0) last."""


def queues(*priorities: str) -> str:
    """Celery's -Q for all channels, the first priority's queues first."""
    return ",".join(f"{channel}.{priority}" for priority in priorities for channel in CHANNELS)


@dataclass(frozen=True)
class Addresses:
    """Loopback ports of one demo, and two folders: where the stand-in providers keep the CA that signed them, and where
    the processes of each service add up what they count."""

    web: int
    apns: int
    apns_development: int
    apns_control: int
    fcm: int
    fcm_control: int
    high_metrics: int
    bulk_metrics: int
    control_metrics: int
    live: int
    smtp: int
    smtp_control: int
    solapi: int
    solapi_control: int
    twilio: int
    twilio_control: int
    nhn: int
    nhn_control: int
    ca_dir: Path
    metrics_dir: Path

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web}"

    @property
    def providers(self) -> dict[str, tuple[int, int]]:
        """Ports of the stand-ins: where it is sent to, and the control endpoint."""
        return {
            "apns": (self.apns, self.apns_control),
            "fcm": (self.fcm, self.fcm_control),
            "smtp": (self.smtp, self.smtp_control),
            "solapi": (self.solapi, self.solapi_control),
            "twilio": (self.twilio, self.twilio_control),
            "nhn": (self.nhn, self.nhn_control),
        }

    def environment(self) -> dict[str, str]:
        """What the settings and the scenario read."""
        nhn = f"https://127.0.0.1:{self.nhn}"
        fcm = f"https://127.0.0.1:{self.fcm}"
        return {
            "AUTOMATA_ENV": "demo",
            "AUTOMATA_SANDBOX": "1",  # the stand-in providers refuse to start without it
            "ALLOWED_HOSTS": "localhost,127.0.0.1",
            "PUBLIC_URL": self.web_url,
            "LIVE_URL": f"http://127.0.0.1:{self.live}",
            "APNS_URL": f"https://127.0.0.1:{self.apns}",
            "APNS_SANDBOX_URL": f"https://127.0.0.1:{self.apns_development}",
            "FCM_URL": fcm,
            "FCM_TOKEN_URL": f"{fcm}/token",
            "SOLAPI_URL": f"https://127.0.0.1:{self.solapi}",
            "TWILIO_URL": f"https://127.0.0.1:{self.twilio}",
            "NHN_SMS_URL": nhn,
            "NHN_KAKAO_URL": nhn,
            "CACHE_AUDIENCE_COUNTS_S": "0",  # the scenario counts again within seconds
            "OUTGOING_ALLOW_PRIVATE": "1",  # the relay and the receiver of webhooks are on this machine
            "PROVIDER_CA_FILE": str(self.ca_dir / "ca.pem"),
            "API_URL": self.web_url,
            "SANDBOX_SMTP_PORT": str(self.smtp),
            **{
                f"SANDBOX_{name.upper()}_CONTROL_URL": f"http://127.0.0.1:{control}"
                for name, (_, control) in self.providers.items()
            },
        }


def python_module(
    name: str, *arguments: str, stage: int = APPLICATION, env: Mapping[str, str] | None = None
) -> ProcessSpec:
    """A process of this Python; PostgreSQL lists its connections under its name."""
    command = (sys.executable, "-m", *arguments)
    return ProcessSpec(name, command, {"APPLICATION_NAME": f"automata-{name}", **(env or {})}, stage=stage)


def provider(name: str, *ports: str, ca_dir: Path) -> ProcessSpec:
    return python_module(name, "apps.sandbox", name, *ports, "--ca-dir", str(ca_dir), stage=PROVIDERS)


def counting(name: str, metrics_dir: Path) -> dict[str, str]:
    """Where the processes of a service count together."""
    return {"PROMETHEUS_MULTIPROC_DIR": str(metrics_dir / name)}


def worker(name: str, queue_names: str, concurrency: int, *, metrics_dir: Path, metrics_port: int) -> ProcessSpec:
    """A Celery worker. Gossip, mingle and Django's checks cost time of every start and help nobody here."""
    celery = (
        "celery",
        "--skip-checks",
        "-A",
        "automata_signal",
        "worker",
        "--loglevel",
        "INFO",
        "--without-gossip",
        "--without-mingle",
    )
    pool = ("--hostname", f"{name}@%h", "--concurrency", str(concurrency), "--queues", queue_names)
    metrics = {**counting(name, metrics_dir), "METRICS_ADDRESS": f"127.0.0.1:{metrics_port}"}
    return python_module(name, *celery, *pool, env=metrics)


def demo_processes(at: Addresses) -> list[ProcessSpec]:
    granian = ("granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(at.web), "--no-ws")
    threads = ("--workers", "2", "--blocking-threads", str(WEB_THREADS), "--respawn-failed-workers")
    more = {"apns": (f"--sandbox-port={at.apns_development}",)}
    return [
        *(
            provider(name, f"--port={port}", f"--control-port={control}", *more.get(name, ()), ca_dir=at.ca_dir)
            for name, (port, control) in at.providers.items()
        ),
        python_module(
            "web",
            *granian,
            *threads,
            "automata_signal.wsgi:application",
            env={"DATABASE_POOL_MAX": str(WEB_THREADS), **counting("web", at.metrics_dir)},
        ),
        python_module(
            "live",
            *("granian", "--interface", "asginl", "--host", "127.0.0.1", "--port", str(at.live), "--http", "1"),
            *("--no-ws", "--workers", "1", "--backlog", "4096", "--backpressure", "30000"),
            *("--workers-kill-timeout", "20", "--respawn-failed-workers", "automata_signal.asgi:application"),
            env={"DATABASE_POOL_MAX": "4", **counting("live", at.metrics_dir)},
        ),
        worker("high", queues("high"), 1, metrics_dir=at.metrics_dir, metrics_port=at.high_metrics),
        worker(
            *("bulk", f"{queues('medium', 'low')},webhooks", 2),
            metrics_dir=at.metrics_dir,
            metrics_port=at.bulk_metrics,
        ),
        worker("control", "control", 1, metrics_dir=at.metrics_dir, metrics_port=at.control_metrics),
        python_module(
            "beat", "celery", "--skip-checks", "-A", "automata_signal", "beat", "--loglevel", "INFO", "--pidfile="
        ),
    ]
