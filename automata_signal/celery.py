"""The Celery application: queues by channel and priority, and `control` for fan-out and sweeps."""

from __future__ import annotations

import os
import signal
from typing import Any

from celery import Celery
from celery.beat import Service
from celery.signals import beat_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "automata_signal.settings")

app = Celery("automata_signal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@beat_init.connect
def stop_beat_between_ticks(sender: Service, **_: Any) -> None:
    """On SIGTERM and SIGINT beat ends its tick, saves its schedule and exits, within `CELERY_BEAT_MAX_LOOP_INTERVAL`.

    Celery's own handler saves the schedule at once, in whatever the signal interrupted. When that was a query of the
    database scheduler, the connection is locked and beat waits for itself for good.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sender.stop())
