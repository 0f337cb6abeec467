"""The file of a copy: a ZIP of one JSON document for each section, made of the parts while it is loaded."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder

from automata_signal.downloads import Download
from automata_signal.private_files import delete_file, read_sealed, save_sealed

if TYPE_CHECKING:
    from apps.subscriptions.data_requests.models import DataRequest

DOWNLOAD_KIND = "data-request"
FOLDER = "data-requests"
README = """\
A copy of everything that is held about one user, as it was when the file was made.

Each file is a list of records in JSON (UTF-8). Times have their zone. Push tokens are shortened: they are secrets
between the provider and the sender and say nothing about the person.
"""


def write_part(request_id: UUID, number: int, section: str, rows: list[Any]) -> dict[str, Any]:
    """Write, or write again, a page of a section; answers with what `DataRequest.parts` keeps of it."""
    name = _part_name(request_id, number)
    lines = ",\n".join(json.dumps(row, cls=DjangoJSONEncoder, ensure_ascii=False, indent=1) for row in rows)
    content = lines.encode()
    delete_file(name)
    return {"section": section, "name": save_sealed(name, [content]), "bytes": len(content), "rows": len(rows)}


def _part_name(request_id: UUID, number: int) -> str:
    return f"{FOLDER}/{request_id}-{number}"


def part_names(request: DataRequest) -> list[str]:
    """The files that there may be of a copy, with the page that a killed worker had written and nobody has noted."""
    return [*(part["name"] for part in request.parts), _part_name(request.pk, len(request.parts))]


def delete_parts(names: list[str]) -> None:
    for name in names:
        delete_file(name)


def copy_download(request: DataRequest) -> Download:
    return Download(f"data-copy-{request.pk}.zip", "application/zip", _zip(request.parts))


def _zip(parts: list[dict[str, Any]]) -> Iterator[bytes]:
    """The ZIP, piece by piece: memory is one frame of a part."""
    out = _Outgoing()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        archive.writestr("README.txt", README)
        for section, of_section in groupby(parts, key=lambda part: part["section"]):
            with archive.open(f"{section}.json", "w") as document:
                document.write(b"[\n")
                is_first = True
                for part in of_section:
                    if part["bytes"]:
                        document.write(b"" if is_first else b",\n")
                        is_first = False
                    for chunk in read_sealed(part["name"]) if part["bytes"] else ():
                        document.write(chunk)
                        yield from out.taken()
                document.write(b"\n]\n")
            yield from out.taken()
    yield from out.taken()


class _Outgoing:
    """Where the ZIP is written to; it cannot be read or gone back in."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._held.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> Iterator[bytes]:
        held, self._held = self._held, []
        if held:
            yield b"".join(held)
