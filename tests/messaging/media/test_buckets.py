"""Files in a bucket, over a real socket: moto's S3 stands for all that speaks like it."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit

import boto3
import pytest
from django.test import Client
from moto.server import ThreadedMotoServer

from apps.messaging.media.models import MediaFile
from apps.messaging.media.selectors import attachments_load
from apps.messaging.media.storing import read
from automata_signal import private_files
from automata_signal.private_files import delete_file, open_sealed, private_storage, read_sealed, save_sealed
from automata_signal.settings import bucket_or_folder
from tests.messaging.media import pictures
from tests.messaging.media.test_uploads import upload

KEYS = {"access_key": "AKIAEXAMPLE", "secret_key": "example"}


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def buckets(s3, settings):
    """Media and private files in buckets."""
    client = boto3.client(
        *("s3", "us-east-1"), endpoint_url=s3, aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="example"
    )
    for name in ("media", "private"):
        client.create_bucket(Bucket=f"{name}-files")
    options = {"endpoint_url": s3, "region_name": "us-east-1", "signature_version": "s3v4", "file_overwrite": False}
    backend = "automata_signal.buckets.BucketStorage"
    settings.STORAGES = settings.STORAGES | {
        name: {"BACKEND": backend, "OPTIONS": {**KEYS, **options, "bucket_name": f"{name}-files", "location": "a"}}
        for name in ("media", "private")
    }
    return client


@pytest.mark.django_db(transaction=True)
def test_an_address_leads_to_the_bucket_for_a_while(server, application, buckets):
    media = upload(server, pictures.picture(), "배너.jpg").json()["data"]
    row = MediaFile.objects.get()
    assert buckets.list_objects_v2(Bucket="media-files")["Contents"][0]["Key"] == f"a/{row.stored_as}"
    answer = Client().get(urlsplit(media["url"]).path)
    assert answer.status_code == 302
    assert answer["Cache-Control"] == "private, max-age=300"
    with urllib.request.urlopen(answer["Location"]) as there:
        assert there.read() == read(row.stored_as)
        assert there.headers["Content-Type"] == "image/jpeg"
        assert there.headers["Content-Disposition"].startswith("inline; filename*=utf-8''")
    assert "X-Amz-Expires=600" in answer["Location"]
    (attachment,) = attachments_load(application_id=application.pk, ids=[row.pk])
    assert attachment.content == read(row.stored_as)
    made = server.post(f"media/{media['id']}/variants", {"channel": "thumbnail"})
    assert made.status_code == 200
    server.delete(f"media/{media['id']}")
    assert "Contents" not in buckets.list_objects_v2(Bucket="media-files")
    with pytest.raises(FileNotFoundError):
        read(row.stored_as)


def test_private_files_are_sealed_in_the_bucket_too(buckets, monkeypatch):
    monkeypatch.setattr(private_files, "FRAME_BYTES", 1_000)
    monkeypatch.setattr(private_files, "_SEALED_FRAME_BYTES", 1 + private_files.NONCE_BYTES + 1_000 + 16)
    plain = b"somebody@example.com\n" * 500
    name = save_sealed("imports/one.csv", (plain[start : start + 700] for start in range(0, len(plain), 700)))
    stored = buckets.get_object(Bucket="private-files", Key=f"a/{name}")["Body"].read()
    assert b"somebody" not in stored
    assert b"".join(read_sealed(name)) == plain
    with open_sealed(name, offset=4_321) as file:
        assert file.read() == plain[4_321:]
    assert private_storage().listdir("imports") == ([], ["one.csv"])
    delete_file(name)
    delete_file(name)
    with pytest.raises(FileNotFoundError):
        private_storage().listdir("imports")
    with pytest.raises(FileNotFoundError):
        open_sealed(name)


def test_an_upload_that_fails_leaves_nothing_in_the_bucket(buckets):
    def broken():
        yield b"a"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        save_sealed("imports/two.csv", broken())
    assert "Contents" not in buckets.list_objects_v2(Bucket="private-files", Prefix="a/imports/two")


@pytest.mark.parametrize("name", ["", "shop-media"])
def test_a_bucket_is_chosen_by_its_name(name):
    chosen = bucket_or_folder({"bucket_name": name, "access_key": "", "region_name": "eu-west-1"}, {"location": "/x"})
    if name:
        assert chosen["BACKEND"] == "automata_signal.buckets.BucketStorage"
        assert chosen["OPTIONS"]["region_name"] == "eu-west-1"
        assert "access_key" not in chosen["OPTIONS"], "the machine's role may have one"
    else:
        assert chosen["OPTIONS"] == {"location": "/x"}
