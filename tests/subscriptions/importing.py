"""Imports as tests make them: a file by the API, and the steps that a worker does."""

from __future__ import annotations

import csv
import io
from uuid import UUID

from apps.subscriptions.imports.models import Import
from apps.subscriptions.imports.rejects import rejects_file
from apps.subscriptions.imports.services import ImportOptions, import_create
from apps.subscriptions.imports.steps import import_run
from apps.tenants.models import Application


def upload(application: Application, kind: str, text: str | bytes, **options) -> Import:
    data = text if isinstance(text, bytes) else text.encode()
    return import_create(
        application=application,
        kind=kind,
        file_name="people.csv",
        chunks=[data],
        options=ImportOptions(**options),
        by="tests",
    )


def work(run: Import | UUID) -> Import:
    """What the workers do, until they have nothing to do."""
    key = run.pk if isinstance(run, Import) else run
    while import_run(key):
        pass
    return Import.objects.get(pk=key)


def checked(application: Application, kind: str, text: str | bytes, **options) -> Import:
    return work(upload(application, kind, text, **options))


def applied(application: Application, kind: str, text: str | bytes, **options) -> Import:
    return checked(application, kind, text, mode="apply", **options)


def rejected(run: Import) -> list[list[str]]:
    """The rejects file, with its header."""
    return list(csv.reader(io.StringIO(b"".join(rejects_file(run)).decode("utf-8-sig"), newline="")))


def errors(run: Import) -> dict[int, str]:
    """What is wrong, by line."""
    return {int(row[0]): row[1] for row in rejected(run)[1:]}


def counts(run: Import) -> dict[str, int]:
    """What was counted, but for zeros."""
    return {name: count for name, count in run.counts.items() if count}
