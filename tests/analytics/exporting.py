"""Ordering, writing and loading exports, as callers of the API and the control worker do it."""

from __future__ import annotations

import csv
import gzip
from io import StringIO
from typing import Any

from apps.analytics.exports import running
from apps.analytics.models.exports import Export
from apps.tenants.models import KeyKind
from apps.tenants.scopes import SCOPES
from apps.tenants.services import key_create
from tests.conftest import ApiClient

THIS_YEAR = {"since": "2026-01-01T00:00:00Z"}


def client_with(application, *scopes: str, without: tuple[str, ...] = ()) -> ApiClient:
    """A key with these scopes; with all but some if only those are named."""
    granted = list(scopes) or sorted(set(SCOPES) - set(without))
    new = key_create(application=application, name="exports", kind=KeyKind.SECRET, scopes=granted)
    return ApiClient(new.plaintext)


def order(client: ApiClient, kind: str, **fields: Any) -> dict[str, Any]:
    """The order as the API answers it."""
    if "filters" not in fields and kind not in ("users", "subscriptions", "campaigns"):
        fields["filters"] = THIS_YEAR
    answer = client.post("exports", {"kind": kind, **fields})
    assert answer.status_code == 202, answer.content
    return answer.json()["data"]


def refused(client: ApiClient, kind: str, **fields: Any):
    answer = client.post("exports", {"kind": kind, **fields})
    assert answer.status_code >= 400, answer.content
    assert not Export.objects.exists()
    return answer


def link_of(client: ApiClient, export_id: str) -> str:
    """The path of its download."""
    url = client.get(f"exports/{export_id}").json()["data"]["download_url"]
    assert url.startswith("http://localhost:8000/api/v1/exports/"), url
    return url.removeprefix("http://localhost:8000")


def body_of(answer) -> bytes:
    assert answer.status_code == 200, answer.content
    return b"".join(answer.streaming_content)


def work() -> None:
    """What the control worker does until nothing is left."""
    while running.export_step():
        pass


def exported(client: ApiClient, kind: str, **fields: Any) -> bytes:
    """The file, from the order to the download."""
    made = order(client, kind, **fields)
    work()
    body = body_of(client.get(link_of(client, made["id"])))
    return gzip.decompress(body) if fields.get("gzip") else body


def table(content: bytes) -> list[dict[str, str]]:
    """The rows of a file by the names of their columns."""
    return list(csv.DictReader(StringIO(content.decode("utf-8-sig"), newline="")))
