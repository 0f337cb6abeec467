"""What is used stays, what nothing uses goes; and attachments of e-mails."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from apps.campaigns.services import campaign_create
from apps.messaging.adapters.base import Attachment
from apps.messaging.media.models import MediaFile
from apps.messaging.media.selectors import attachments_load, media_address
from apps.messaging.media.services import media_create, media_forget_unused, media_mark_used
from apps.messaging.media.storing import forget
from apps.messaging.models import MessageTemplate
from apps.messaging.services import template_create
from automata_signal.errors import ValidationFailed
from tests.messaging.media import pictures

pytestmark = pytest.mark.django_db


def make(application, *, name: str = "a.pdf", days_ago: int = 0, content: bytes = b"") -> MediaFile:
    media = media_create(application=application, file_name=name, chunks=[content or pictures.pdf()], by="test")
    MediaFile.objects.filter(pk=media.pk).update(created_at=timezone.now() - timedelta(days=days_ago))
    return media


def test_uploads_that_nothing_names_are_deleted_after_days(application, settings):
    settings.MEDIA_UNUSED_DAYS, settings.MEDIA_KEEP_DAYS = 30, 400
    fresh, used, old = make(application), make(application, days_ago=500), make(application, days_ago=31)
    media_mark_used(application_id=application.pk, ids=[str(used.pk)])
    assert media_forget_unused() == 1
    assert set(MediaFile.objects.values_list("pk", flat=True)) == {fresh.pk, used.pk}
    MediaFile.objects.filter(pk=used.pk).update(last_used_at=timezone.now() - timedelta(days=401))
    assert media_forget_unused() == 1
    assert not MediaFile.objects.filter(pk__in=[used.pk, old.pk]).exists()


def test_what_a_template_or_a_draft_names_stays(application):
    shown, attached = make(application, days_ago=100, content=pictures.picture()), make(application, days_ago=100)
    in_draft = make(application, days_ago=100, content=pictures.picture())
    body = f'<img src="{media_address(shown)}">'
    template = template_create(application=application, name="t", body_template=body, created_by="test")
    MessageTemplate.objects.update(options={"attachments": [str(attached.pk)]})
    campaign_create(
        application=application, name="c", title="t", body=media_address(in_draft), targeting_criteria={}, by="test"
    )
    assert media_forget_unused() == 0
    assert MediaFile.objects.filter(last_used_at__isnull=False).count() == 3
    template.delete()
    MediaFile.objects.update(last_used_at=timezone.now() - timedelta(days=1_000))
    assert media_forget_unused() == 2
    assert MediaFile.objects.get().pk == in_draft.pk


def test_a_file_in_use_is_deleted_only_by_who_insists(server, application):
    media = make(application)
    media_mark_used(application_id=application.pk, ids=[media.pk])
    refused = server.delete(f"media/{media.pk}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "MEDIA_IN_USE")
    assert server.delete(f"media/{media.pk}?even_if_used=true").status_code == 204


def test_a_strangers_files_are_not_marked(application, other_application):
    media = make(application)
    media_mark_used(application_id=other_application.pk, ids=[media.pk])
    assert MediaFile.objects.get().last_used_at is None


def test_attachments_come_in_their_order(application):
    first, second = make(application, name="계약서.pdf"), make(application, name="a.csv", content=b"a,b\n")
    loaded = attachments_load(application_id=application.pk, ids=[str(second.pk), first.pk])
    assert loaded == (
        Attachment("a.csv", "text/csv; charset=utf-8", b"a,b\n"),
        Attachment("계약서.pdf", "application/pdf", pictures.pdf()),
    )


def test_attachments_that_cannot_go_along_are_named(application, other_application, settings):
    media, theirs = make(application), make(other_application)
    settings.MEDIA_ATTACHMENTS_TOTAL_MAX_BYTES = media.file_bytes + 10
    second = make(application)

    def refusal(*ids) -> tuple[str, str]:
        with pytest.raises(ValidationFailed) as caught:
            attachments_load(application_id=application.pk, ids=ids)
        return tuple(caught.value.details[0])

    assert refusal(media.pk, theirs.pk) == ("options.attachments.1", "there is no such media file")
    assert refusal("zzz") == ("options.attachments.0", "must be the id of a media file")
    assert refusal(str(UUID(int=0)))[0] == "options.attachments.0"
    assert refusal(media.pk, media.pk)[0] == "options.attachments.1"
    assert refusal(media.pk, second.pk)[1].startswith("with it the attachments are")
    assert refusal(*[media.pk] * 11)[0] == "options.attachments"
    forget(media.stored_as)
    assert refusal(media.pk)[1].startswith("is gone from the storage")
