"""The table of the demo's processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from django.conf import settings

from tools.processes import Addresses, demo_processes

AT = Addresses(8000, *range(9001, 9018), ca_dir=Path("ca"), metrics_dir=Path("metrics"))


def test_every_queue_has_exactly_one_worker() -> None:
    commands = (spec.command for spec in demo_processes(AT) if "worker" in spec.command)
    consumed = Counter(queue for command in commands for queue in command[command.index("--queues") + 1].split(","))
    assert consumed == Counter(queue.name for queue in settings.CELERY_TASK_QUEUES)


def test_urgent_messages_have_a_worker_of_their_own() -> None:
    high = next(spec.command for spec in demo_processes(AT) if spec.name == "high")
    assert all(queue.endswith(".high") for queue in high[high.index("--queues") + 1].split(","))


def test_names_are_different() -> None:
    names = [spec.name for spec in demo_processes(AT)]
    assert len(set(names)) == len(names)


def test_providers_are_the_stand_ins_only() -> None:
    environment = AT.environment()
    for name in ("APNS_URL", "APNS_SANDBOX_URL", "FCM_URL", "FCM_TOKEN_URL"):
        assert environment[name].startswith("https://127.0.0.1:")
