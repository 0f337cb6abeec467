"""Images as channels take them."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from apps.messaging.media.images import CHANNEL_IMAGES, image_for
from apps.messaging.media.models import MediaFile, MediaVariant
from apps.messaging.media.storing import media_storage, read
from automata_signal.errors import ValidationFailed
from tests.messaging.media import pictures
from tests.messaging.media.test_uploads import upload

NOISE = pictures.noise(1_300, 1_000, "JPEG")
SOURCES = {
    "photo": (NOISE, "image/jpeg"),
    "see-through": (pictures.picture(1_400, 900, form="PNG", mode="LA"), "image/png"),
    "moving": (pictures.moving(), "image/gif"),
    "tall": (pictures.picture(600, 2_400), "image/jpeg"),
}


@pytest.mark.parametrize("channel", CHANNEL_IMAGES)
@pytest.mark.parametrize("source", SOURCES)
def test_every_channel_gets_what_it_takes(channel, source):
    content, content_type = SOURCES[source]
    rule = CHANNEL_IMAGES[channel]
    if source == "moving" and rule.min_width:
        with pytest.raises(ValidationFailed, match="500 pixels wide"):
            image_for(content, content_type, channel)
        return
    made = image_for(content, content_type, channel)
    assert len(made.content) <= rule.max_bytes
    assert made.content_type in rule.types
    assert made.is_animated == (source == "moving" and rule.may_move)
    with Image.open(io.BytesIO(made.content)) as image:
        assert image.size == (made.width, made.height)
        assert image.width <= rule.max_width
        assert image.height <= rule.max_height
        if rule.ratio:
            assert image.width / image.height == pytest.approx(rule.ratio, rel=0.02)


@pytest.mark.django_db
def test_a_variant_is_made_once_and_counts_for_the_quota(server, application):
    media = upload(server, pictures.picture(1_600, 900)).json()["data"]
    first = server.post(f"media/{media['id']}/variants", {"channel": "kakao"}).json()["data"]
    assert (first["width"], first["height"], first["content_type"]) == (800, 400, "image/jpeg")
    assert server.post(f"media/{media['id']}/variants", {"channel": "kakao"}).json()["data"] == first
    made = MediaVariant.objects.get()
    assert len(read(made.stored_as)) == made.file_bytes == first["file_bytes"]
    row = MediaFile.objects.get()
    assert row.stored_bytes == row.file_bytes + made.file_bytes
    assert server.get(f"media/{media['id']}").json()["data"]["variants"] == [first]


@pytest.mark.django_db(transaction=True)
def test_a_file_goes_with_its_variants(server):
    media = upload(server, pictures.picture()).json()["data"]
    server.post(f"media/{media['id']}/variants", {"channel": "thumbnail"})
    names = [MediaFile.objects.get().stored_as, MediaVariant.objects.get().stored_as]
    assert server.delete(f"media/{media['id']}").status_code == 204
    assert not any(media_storage().exists(name) for name in names)


@pytest.mark.django_db
def test_only_images_have_variants_and_only_of_known_channels(server):
    media = upload(server, pictures.pdf(), "a.pdf").json()["data"]
    answer = server.post(f"media/{media['id']}/variants", {"channel": "kakao"})
    assert (answer.status_code, answer.json()["error"]["details"][0]["field"]) == (400, "channel")
    assert server.post(f"media/{media['id']}/variants", {"channel": "fax"}).status_code == 400
