"""Media files in what is sent: found when content is accepted, attached when it leaves."""

from __future__ import annotations

from uuid import UUID

from apps.messaging.adapters.base import Attachment
from apps.messaging.content import ContentSource
from apps.messaging.media.addresses import media_ids_in
from apps.messaging.media.selectors import attachments_check, attachments_load
from apps.messaging.media.services import media_mark_used
from apps.messaging.models import Dispatch
from apps.tenants.models import Application


def keep_media(application: Application, source: ContentSource) -> ContentSource:
    """A preparer: the files that the content names are needed from now on. Raises `ValidationFailed` with
    `options.attachments.<index>` for one that cannot be attached."""
    words = [{"title": source.title, "body": source.body, "data": source.data}, *source.languages.values()]
    ids: set[UUID] = media_ids_in([str([words, source.options])])
    if attachments := source.options.get("attachments"):
        ids |= {file.pk for file in attachments_check(application_id=application.pk, ids=attachments)}
    media_mark_used(application_id=application.pk, ids=ids)
    return source


def attachments_of(dispatch: Dispatch) -> tuple[Attachment, ...]:
    """The files that go along with every message of the dispatch. Raises `ValidationFailed` for one that is gone."""
    ids = dispatch.options.get("attachments")
    return attachments_load(application_id=dispatch.application_id, ids=ids) if ids else ()
