"""What a file is, by its content: its name and what the sender says of it decide nothing."""

from __future__ import annotations

import io
import re
import unicodedata
import zipfile
from typing import NamedTuple

import filetype

from apps.messaging.media.images import IMAGE_TYPES
from apps.messaging.media.models import MediaKind
from automata_signal.errors import ValidationFailed

NAME_MAX = 100
_LOOKED_AT = 4_096
_OFFICE = {
    "word/document.xml": ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    "xl/workbook.xml": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    "ppt/presentation.xml": ("application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx"),
}
_UNPACKED_MAX_BYTES = 200 * 1024 * 1024
_ENTRIES_MAX = 2_000
_TEXTS = {
    "txt": "text/plain; charset=utf-8", "csv": "text/csv; charset=utf-8", "ics": "text/calendar; charset=utf-8",
    "vcf": "text/vcard; charset=utf-8",
}  # fmt: skip
_BINARY = {"audio/mpeg": "mp3", "video/mp4": "mp4"}
_IMAGES = {"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/webp": "webp"}
_MARKUP = re.compile(rb"<\s*(!doctype|html|head|body|script|svg|iframe|object|embed|\?xml|\?php|%|xsl:|math)", re.I)
_PROGRAM = (b"MZ", b"\x7fELF", b"#!", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe",
            b"\x00asm", b"L\x00\x00\x00\x01\x14\x02\x00", b"\xd0\xcf\x11\xe0", b"dex\n")  # fmt: skip
_ACTIVE_PDF = re.compile(rb"/(JavaScript|Launch|EmbeddedFile|RichMedia|XFA)\b")
_UNSAFE = re.compile(r'[\\/:*?"<>|%;\x00-\x1f\x7f]')


class Found(NamedTuple):
    """What a file is."""

    kind: MediaKind
    content_type: str
    extension: str


def find_kind(content: bytes, file_name: str, *, field: str = "file") -> Found:
    """The kind of a file. Raises `ValidationFailed` for all that is not on the short list of what may be sent."""
    if not content:
        raise ValidationFailed.of(field, "is empty")
    if content.startswith(_PROGRAM):
        raise ValidationFailed.of(field, "is a program, or a document of a kind that may hold one")
    guessed = filetype.guess_mime(content[:_LOOKED_AT]) or ""
    if guessed in IMAGE_TYPES:
        return Found(MediaKind.IMAGE, guessed, _IMAGES[guessed])
    if _MARKUP.search(content[:_LOOKED_AT]):
        raise ValidationFailed.of(field, "is HTML, XML or SVG, which may hold scripts")
    if content.startswith(b"%PDF-"):
        _check_pdf(content, field)
        return Found(MediaKind.ATTACHMENT, "application/pdf", "pdf")
    if content.startswith(b"PK"):
        return _find_office(content, field)
    if guessed in _BINARY:
        _refuse_archive(content, field)
        return Found(MediaKind.ATTACHMENT, guessed, _BINARY[guessed])
    extension = file_name.rpartition(".")[2].lower()
    if extension in _TEXTS and _is_text(content):
        return Found(MediaKind.ATTACHMENT, _TEXTS[extension], extension)
    known = ", ".join([*_IMAGES.values(), "pdf", *(name for _, name in _OFFICE.values()), *_BINARY.values(), *_TEXTS])
    raise ValidationFailed.of(field, f"is of a kind that is not taken; what is: {known}")


def clean_name(file_name: str, extension: str) -> str:
    """The last part of a name, as every file system and mail program can show it, ending as its content does."""
    name = unicodedata.normalize("NFC", file_name.replace("\\", "/").rpartition("/")[2])
    name = "".join(
        character for character in name if unicodedata.category(character)[0] != "C"
    )  # also right-to-left marks
    stem, dot, given = _UNSAFE.sub("_", name).rpartition(".")
    if not dot:
        stem = given
    stem = " ".join(stem.split()).strip(". ")
    return f"{stem[:NAME_MAX] or 'file'}.{extension}"


def _check_pdf(content: bytes, field: str) -> None:
    if b"%%EOF" not in content[-2_048:]:
        raise ValidationFailed.of(field, "is damaged: this PDF has no end")
    if active := _ACTIVE_PDF.search(content):
        raise ValidationFailed.of(field, f"is a PDF with active content ({active[1].decode()})")
    _refuse_archive(content, field)


def _refuse_archive(content: bytes, field: str) -> None:
    """Two files in one: what is harmless for one program and an archive for the next."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        raise ValidationFailed.of(field, "is two files in one: an archive hides in it")


def _find_office(content: bytes, field: str) -> Found:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        raise ValidationFailed.of(field, "is damaged: it cannot be unpacked") from None
    names = {entry.filename for entry in entries}
    office = next((_OFFICE[name] for name in _OFFICE if name in names), None)
    if office is None or "[Content_Types].xml" not in names:
        raise ValidationFailed.of(field, "is an archive: what is in it cannot be vouched for")
    if len(entries) > _ENTRIES_MAX or sum(entry.file_size for entry in entries) > _UNPACKED_MAX_BYTES:
        raise ValidationFailed.of(field, "is too large when it is unpacked")
    if any(
        "vbaproject" in name.lower() or "/activex/" in name.lower() or "oleobject" in name.lower() for name in names
    ):
        raise ValidationFailed.of(field, "holds macros or other programs")
    return Found(MediaKind.ATTACHMENT, *office)


def _is_text(content: bytes) -> bool:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not any(ord(character) < 32 and character not in "\r\n\t\f" for character in text)
