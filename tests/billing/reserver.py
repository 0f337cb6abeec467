"""`python -m tests.billing.reserver APPLICATION TIMES MESSAGES`: a process that reserves as often as it is told, and
prints how many messages it was granted in all."""

from __future__ import annotations

import os
import sys
from uuid import UUID

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "automata_signal.settings")
django.setup()

from apps.billing.services.quota import quota_reserve  # noqa: E402  (after django.setup)
from automata_signal.errors import SignalError  # noqa: E402


def reserve(application: str, times: int, messages: int) -> int:
    granted = 0
    for _ in range(times):
        try:
            granted += quota_reserve(application_id=UUID(application), channel_type="push", messages=messages).messages
        except SignalError:
            continue
    return granted


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    sys.stdout.write(f"{reserve(name, *map(int, numbers))}\n")
