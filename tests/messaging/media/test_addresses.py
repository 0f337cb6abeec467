"""Public addresses: what they open, for how long, and what a browser is told about it."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit
from uuid import UUID

import pytest
from django.test import Client

from apps.messaging.media import addresses
from apps.messaging.media.addresses import AddressRefused, media_ids_in, media_url, read_address
from apps.messaging.media.models import MediaFile
from apps.messaging.media.storing import read
from tests.messaging.media import pictures
from tests.messaging.media.test_uploads import upload

pytestmark = pytest.mark.django_db
KEY = UUID("0198c0de-0000-7000-8000-000000000001")


def path_of(url: str) -> str:
    return urlsplit(url).path


def token_of(url: str) -> str:
    return path_of(url).split("/")[2]


def test_an_image_is_shown_and_nothing_in_it_can_run(server):
    media = upload(server, pictures.picture(), "배너.jpg").json()["data"]
    answer = Client().get(path_of(media["url"]))
    assert answer.status_code == 200
    assert not answer.streaming  # it would keep a thread of the web for as long as its reader likes
    assert answer.content == read(MediaFile.objects.get().stored_as)
    head = Client().head(path_of(media["url"]))
    assert (head.status_code, head["Content-Length"]) == (200, answer["Content-Length"])
    assert answer["Content-Type"] == "image/jpeg"
    assert answer["Content-Length"] == str(media["file_bytes"])
    assert answer["Content-Disposition"].startswith("inline; filename*=utf-8''")
    assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer["Cache-Control"] == "public, max-age=86400"
    again = Client().get(path_of(media["url"]), headers={"If-None-Match": answer["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert Client().post(path_of(media["url"])).status_code == 405


def test_an_attachment_is_downloaded(server):
    media = upload(server, pictures.pdf(), "계약서.pdf").json()["data"]
    answer = Client().get(path_of(media["url"]))
    assert answer["Content-Disposition"].startswith("attachment; ")
    assert answer["Content-Type"] == "application/pdf"
    assert unquote(media["url"]).endswith("/계약서.pdf")


def test_a_variant_has_an_address_of_its_own(server):
    media = upload(server, pictures.picture(900, 500, form="PNG"), "a.png").json()["data"]
    made = server.post(f"media/{media['id']}/variants", {"channel": "kakao"}).json()["data"]
    assert made["url"].endswith("/a.jpg")
    answer = Client().get(path_of(made["url"]))
    assert (answer["Content-Type"], answer["Content-Length"]) == ("image/jpeg", str(made["file_bytes"]))


def test_a_deleted_file_is_gone_for_all_its_addresses(server, application):
    media = upload(server, pictures.picture()).json()["data"]
    link = server.post(f"media/{media['id']}/links", {"valid_s": 600}).json()["data"]["url"]
    assert Client().get(path_of(link)).status_code == 200
    application.is_active = False
    application.save()
    assert Client().get(path_of(link)).status_code == 404
    application.is_active = True
    application.save()
    server.delete(f"media/{media['id']}")
    assert [Client().get(path_of(url)).status_code for url in (media["url"], link)] == [404, 404]


def test_an_address_for_a_while_ends(server, monkeypatch):
    media = upload(server, pictures.picture()).json()["data"]
    link = server.post(f"media/{media['id']}/links", {"valid_s": 60}).json()["data"]["url"]
    answer = Client().get(path_of(link))
    assert 50 <= int(answer["Cache-Control"].rpartition("=")[2]) <= 60
    now = addresses.time.time()
    monkeypatch.setattr("apps.messaging.media.addresses.time.time", lambda: now + 61)
    assert Client().get(path_of(link)).status_code == 410
    assert Client().get(path_of(media["url"])).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: token.replace("..", ".kakao.", 1),
        lambda token: ("0" if token[0] != "0" else "1") + token[1:],
        lambda token: token.replace("..", "..ffffffff", 1),
        lambda token: token.upper(),
        lambda token: token + "A" * 200,
        lambda token: "",
        lambda token: token.replace(".", "%2e"),
    ],
)
def test_a_changed_address_is_none_of_ours(change):
    token = token_of(media_url(KEY, "a.jpg"))
    assert read_address(token).media_id == KEY
    with pytest.raises(AddressRefused):
        read_address(change(token))


def test_an_expiry_cannot_be_taken_away():
    timed = token_of(media_url(KEY, "a.jpg", valid_s=60))
    key, variant, _, mac = timed.split(".")
    with pytest.raises(AddressRefused):
        read_address(f"{key}.{variant}..{mac}")


def test_what_content_names_is_found():
    text = f'<img src="{media_url(KEY, "a.jpg")}"> <a href="https://x/m/nothing">'
    assert media_ids_in([text, "no address"]) == {KEY}
