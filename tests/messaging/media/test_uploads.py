"""What may be uploaded, what is kept of it, and what is refused: by content, whatever its name says."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from apps.messaging.media.kinds import clean_name
from apps.messaging.media.models import MediaFile, MediaVariant
from apps.messaging.media.storing import media_storage, read
from tests.messaging.media import pictures

pytestmark = pytest.mark.django_db
MULTIPART = "multipart/form-data; boundary=x"


def upload(client, content: bytes, name: str = "file.jpg", **more: str):
    lines = [
        f'--x\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n' for field, value in more.items()
    ]
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: x/y\r\n\r\n'
    body = "".join(lines).encode() + head.encode() + content + b"\r\n--x--\r\n"
    return client._client.generic("POST", "/api/v1/media", data=body, content_type=MULTIPART, headers=client._headers)


def problem(answer) -> str:
    error = answer.json()["error"]
    return " ".join(f"{detail['field']}: {detail['message']}" for detail in error["details"]) or error["code"]


def test_an_image_is_kept_with_what_was_found_in_it(server, application):
    answer = upload(server, pictures.picture(600, 400, form="PNG"), "배너 사진.jpeg")
    media = answer.json()["data"]
    assert answer.status_code == 201
    assert (media["kind"], media["content_type"], media["file_name"]) == ("image", "image/png", "배너 사진.png")
    assert (media["width"], media["height"], media["is_animated"], media["variants"]) == (600, 400, False, [])
    row = MediaFile.objects.for_application(application).get()
    assert len(read(row.stored_as)) == media["file_bytes"] == row.stored_bytes
    assert server.get(f"media/{media['id']}").json()["data"] == media
    assert [entry["id"] for entry in server.get("media?kind=image").json()["data"]] == [media["id"]]
    assert server.get("media?kind=attachment").json()["data"] == []


def test_nothing_but_the_pixels_of_a_photo_is_kept(server):
    media = upload(server, pictures.with_secrets()).json()["data"]
    stored = read(MediaFile.objects.get().stored_as)
    assert b"SECRET" not in stored
    assert (media["width"], media["height"]) == (200, 300), "it was turned as its camera said"
    with Image.open(io.BytesIO(stored)) as image:
        assert not image.getexif()


def test_of_a_phones_double_photo_the_first_is_kept(server):
    media = upload(server, pictures.double()).json()["data"]
    assert (media["content_type"], media["is_animated"], media["width"]) == ("image/jpeg", False, 300)


def test_a_moving_image_still_moves(server):
    media = upload(server, pictures.moving(), "a.gif").json()["data"]
    assert (media["content_type"], media["is_animated"]) == ("image/gif", True)
    with Image.open(io.BytesIO(read(MediaFile.objects.get().stored_as))) as image:
        assert image.n_frames == 3


@pytest.mark.parametrize(
    ("content", "name", "content_type"),
    [
        (pictures.pdf(), "r.exe", "application/pdf"),
        (pictures.office(), "r.zip", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (pictures.office(document="xl/workbook.xml"), "r.xlsx",
         "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("a,b\n가,나\n".encode(), "list.csv", "text/csv; charset=utf-8"),
        (b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n", "visit.ics", "text/calendar; charset=utf-8"),
    ],
)  # fmt: skip
def test_attachments_are_known_by_their_content(server, content, name, content_type):
    media = upload(server, content, name).json()["data"]
    assert (media["kind"], media["content_type"]) == ("attachment", content_type)
    assert read(MediaFile.objects.get().stored_as) == content


@pytest.mark.parametrize(
    ("content", "name", "why"),
    [
        (b"", "a.jpg", "file: "),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "a.png", "HTML, XML or SVG"),
        (b"\xef\xbb\xbf  <!DOCTYPE html><html></html>", "a.txt", "HTML, XML or SVG"),
        (b"MZ\x90\0" + b"\0" * 100, "a.jpg", "a program"),
        (b"\x7fELF" + b"\0" * 100, "a.pdf", "a program"),
        (b"#!/bin/sh\nrm -rf /\n", "a.txt", "a program"),
        (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "a.hwp", "a document of a kind"),
        (pictures.archive(), "a.docx", "an archive"),
        (pictures.office("word/vbaProject.bin"), "a.docx", "macros"),
        (pictures.pdf() + pictures.archive(), "a.pdf", "two files in one"),
        (pictures.pdf(b"<< /S /JavaScript /JS (app.alert(1)) >>"), "a.pdf", "active content"),
        (pictures.pdf()[:30], "a.pdf", "has no end"),
        (pictures.bomb(60_000, 60_000), "a.png", "far too large"),
        (pictures.bomb(9_000, 9_000), "a.png", "9000 × 9000"),
        (pictures.picture()[:200], "a.jpg", "damaged"),
        (pictures.moving(8, 8, frames=201), "a.gif", "too many frames"),
        (b"\x89PNG\r\n\x1a\n" + b"garbage" * 20, "a.png", "damaged"),
        (b"\0\1\2\3" * 50, "a.txt", "of a kind that is not taken"),
        ("가나".encode("euc-kr"), "a.csv", "of a kind that is not taken"),
        (b"hello", "a.js", "of a kind that is not taken"),
    ],
)  # fmt: skip
def test_what_is_dangerous_or_damaged_is_refused_by_name(server, content, name, why):
    answer = upload(server, content, name)
    assert answer.status_code == 400, answer.content
    assert problem(answer).startswith("file: ")
    assert why in problem(answer)
    assert not MediaFile.objects.exists()


def test_an_image_with_an_archive_behind_it_loses_the_archive(server):
    upload(server, pictures.picture() + pictures.archive(), "a.jpg")
    assert b"PK\x03\x04" not in read(MediaFile.objects.get().stored_as)


def test_sizes_and_the_quota_are_kept(server, settings):
    settings.MEDIA_IMAGE_MAX_BYTES, settings.MEDIA_ATTACHMENT_MAX_BYTES = 2_000, 1_000
    assert upload(server, pictures.noise(60, 60)).status_code == 413
    assert upload(server, pictures.pdf(b"x" * 1_500)).status_code == 413
    assert upload(server, pictures.pdf()).status_code == 201
    settings.MEDIA_QUOTA_BYTES = MediaFile.objects.get().stored_bytes + 10
    answer = upload(server, pictures.pdf())
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "MEDIA_QUOTA_FULL")
    assert answer.json()["error"]["limits"]["what"] == "media_bytes"
    assert MediaFile.objects.count() == 1


def test_a_small_file_may_come_in_json(server):
    content = base64.b64encode(pictures.pdf()).decode()
    assert server.post("media", {"file_name": "a.pdf", "content": content}).status_code == 201
    assert "content" in problem(server.post("media", {"file_name": "a.pdf", "content": "?"}))
    assert "surprise" in problem(upload(server, pictures.pdf(), surprise="1"))


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("../../etc/passwd", "passwd.pdf"),
        ("C:\\temp\\계약서.PDF", "계약서.pdf"),
        ("invoice.pdf.exe", "invoice.pdf.pdf"),
        ("a\u202efdp.exe", "afdp.pdf"),
        ('a"b\r\nX: y;.txt', "a_bX_ y_.pdf"),
        ("..", "file.pdf"),
        ("", "file.pdf"),
        ("x" * 300 + ".pdf", "x" * 100 + ".pdf"),
    ],
)
def test_names_are_cleaned(given, cleaned):
    assert clean_name(given, "pdf") == cleaned


def test_scopes_and_strangers(server, stranger, sdk):
    media = upload(server, pictures.picture()).json()["data"]
    assert stranger.get(f"media/{media['id']}").status_code == 404
    assert stranger.post(f"media/{media['id']}/variants", {"channel": "kakao"}).status_code == 404
    assert stranger.post(f"media/{media['id']}/links", {"valid_s": 60}).status_code == 404
    assert stranger.delete(f"media/{media['id']}?even_if_used=true").status_code == 404
    assert upload(sdk, pictures.picture()).status_code == 403
    assert not MediaVariant.objects.exists()
    assert media_storage().exists(MediaFile.objects.get().stored_as)
