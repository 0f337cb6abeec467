"""What the scripts of the Python peers share: arguments, a warm-up, and one line of JSON with what was measured.

They run in an environment that has the peers and nothing of the project, each as a script of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Send = Callable[[Sequence[str]], int]
"""Sends the message to these addresses; how many the provider accepted."""


@dataclass(frozen=True)
class Task:
    """What a script is to send, to whom, and where."""

    addresses: list[str]
    warm_up: int
    """How many messages are sent before the clock starts; they are sent in addition."""
    host: str
    port: int
    ca_file: str
    secret: dict[str, Any]
    """Of the APNs key or the FCM service account, as the platform keeps it."""
    message: dict[str, Any]
    """title, body, data."""

    @classmethod
    def read(cls, arguments: list[str] | None = None) -> Task:
        parser = argparse.ArgumentParser()
        for name in ("url", "ca-file", "secret", "message", "addresses"):
            parser.add_argument(f"--{name}", required=True)
        for name in ("count", "warm-up"):
            parser.add_argument(f"--{name}", type=int, required=True)
        options = parser.parse_args(arguments)
        where = urlsplit(options.url)
        return cls(
            Path(options.addresses).read_text().split()[: options.count],
            options.warm_up,
            where.hostname or "",
            where.port or 443,
            options.ca_file,
            json.loads(Path(options.secret).read_text()),
            json.loads(options.message),
        )


def measure(task: Task, send: Send) -> None:
    """Send to the first of the addresses so that everything is imported and connected, then to all; print the result.

    `accepted` counts both, `seconds` and `cpu_us` (of this process, all threads, for a message) the second only.
    """
    accepted = send(task.addresses[: task.warm_up])
    began, cpu = time.monotonic(), time.process_time()
    accepted += send(task.addresses)
    seconds, used = time.monotonic() - began, time.process_time() - cpu
    print(json.dumps({"accepted": accepted, "seconds": seconds, "cpu_us": used / len(task.addresses) * 1e6}))
