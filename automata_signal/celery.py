"""The Celery application: queues by channel and priority, and `control` for fan-out and sweeps."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "automata_signal.settings")

app = Celery("automata_signal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
