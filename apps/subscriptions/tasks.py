"""Imports in the background; what people are told of their choices."""

from __future__ import annotations

import time
from uuid import UUID

from celery import shared_task

from apps.subscriptions.data_requests import running
from apps.subscriptions.imports import cleaning, steps
from apps.subscriptions.preferences.notices import AT_ONCE, confirmations_find, notices_send
from apps.subscriptions.preferences.opt_in import opt_ins_expire
from automata_signal.celery import begun

NOTICES_S = 20.0
"""How long one task sends notices; the next one goes on."""


@shared_task(name="subscriptions.run_import")
def run_import(import_id: str) -> None:
    key = UUID(import_id)
    if steps.import_run(key):
        steps.queue_import(key)


@shared_task(name="subscriptions.continue_imports")
def continue_imports() -> None:
    steps.imports_continue()


@shared_task(name="subscriptions.forget_imports")
def forget_imports() -> None:
    cleaning.imports_forget()


@shared_task(name="subscriptions.send_notices")
def send_notices() -> None:
    until = time.monotonic() + NOTICES_S
    while notices_send() == AT_ONCE and time.monotonic() < until:
        pass


@shared_task(name="subscriptions.find_confirmations")
def find_confirmations() -> None:
    """Whose consent is to be confirmed every two years, and which requests for a confirmation are over."""
    while confirmations_find(limit=1_000) == 1_000:
        pass
    while opt_ins_expire(limit=500) == 500:
        pass


@shared_task(name="subscriptions.run_data_requests")
def run_data_requests(mark: str = "") -> None:
    """People's requests about their own data, in steps."""
    if mark:
        begun(mark)
    if running.data_requests_run():
        running.queue_work()


@shared_task(name="subscriptions.continue_data_requests")
def continue_data_requests() -> None:
    running.data_requests_continue()
    running.copies_forget()
