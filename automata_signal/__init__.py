"""The frame: settings, URLs, the Celery application and what every API answer looks like."""

from automata_signal.celery import app as celery_app

__all__ = ["celery_app"]
