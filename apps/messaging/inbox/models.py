"""What lies in the inboxes of users, and of devices that nobody is signed in on."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.tenants.models import Application, ScopedQuerySet


class InboxItem(models.Model):
    """An in-app message in an inbox; its words are those of the message of the same id, and of its dispatch.

    `owner_id` is the user, or the subscription while nobody is signed in there. One dispatch is one item of an owner,
    however many devices it went to, and what was read or put away on one of them is so on all.

    No database foreign keys: a thousand are written by one statement. `id` comes in order of time, so what is old is a
    range of the primary key; the unique index is also what an inbox is read by.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    """Of the first of the dispatch's messages to this owner."""
    application = models.ForeignKey(
        Application, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    owner_id = models.UUIDField(_("owner"))
    dispatch_id = models.UUIDField(_("dispatch"))
    arrived_at = models.DateTimeField(_("arrived"), default=timezone.now)
    starts_at = models.DateTimeField(_("seen from"), null=True)
    expires_at = models.DateTimeField(_("seen until"))
    read_at = models.DateTimeField(_("read"), null=True)
    archived_at = models.DateTimeField(_("archived"), null=True)
    shown_count = models.PositiveSmallIntegerField(_("shown"), default=0, db_default=0)
    """How often it was displayed, on all of the owner's devices."""
    last_shown_at = models.DateTimeField(_("last shown"), null=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        app_label = "messaging"
        verbose_name = _("inbox item")
        verbose_name_plural = _("inbox items")
        constraints = (models.UniqueConstraint(fields=("owner_id", "dispatch_id"), name="one_inbox_item_per_dispatch"),)

    def __str__(self) -> str:
        return str(self.id)


def visible(now: object) -> Q:
    """Items that can be seen at `now`."""
    return Q(expires_at__gt=now) & (Q(starts_at=None) | Q(starts_at__lte=now))
