"""Imports in the background."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from apps.subscriptions.imports import cleaning, steps


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
