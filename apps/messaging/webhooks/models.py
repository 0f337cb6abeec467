"""Outgoing webhooks: who is told of what, what is on its way to them, and how far the reader of events is.

WebhookEndpoint   an address that an application chose, with the secret by which its receiver knows us
  └ WebhookLane       a part of its events, by message: what is delivered one after the other (claim, lease, back-off)
      └ WebhookDelivery   up to a hundred events that are one POST: first the outbox, then the log
WebhookReader     up to which position events have become deliveries
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

from apps.tenants.channels import ChannelType
from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.encryption import EncryptedTextField
from automata_signal.ids import new_id

ASKED_LANE = -1
"""The lane of what somebody asked for (tests and replays): it holds up nothing, and nothing holds it up."""


class WebhookEndpoint(models.Model):
    """An address that is told what happens to the messages and subscriptions of an application.

    Its events are written down as deliveries also while it is not active, so that it goes on where it was, for as long
    as deliveries are kept (`WEBHOOK_KEEP_DAYS`); what was not delivered by then is counted in `lost_events`.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+")
    url = models.CharField(_("address"), max_length=500)
    description = models.CharField(_("description"), max_length=200, blank=True)
    secret = EncryptedTextField(_("secret"))
    previous_secret = EncryptedTextField(_("previous secret"), null=True)
    previous_until = models.DateTimeField(_("previous secret until"), null=True, blank=True, editable=False)
    """Until then deliveries are signed with both."""
    event_types = ArrayField(models.CharField(max_length=40), verbose_name=_("event types"), default=list, blank=True)
    """`message.failed`, or all of a kind (`subscription.*`); empty: all."""
    channels = ArrayField(
        models.CharField(max_length=16, choices=ChannelType.choices),
        verbose_name=_("channels"),
        default=list,
        blank=True,
    )
    """Empty: all."""
    lanes = models.PositiveSmallIntegerField(_("lanes"), editable=False)
    """Into how many its events are parted. Never changed: a message would go from one to another while events wait."""
    from_position = models.BigIntegerField(editable=False)
    """Of events: what was written before is not told."""
    is_active = models.BooleanField(_("active"), default=True)
    disabled_at = models.DateTimeField(_("disabled at"), null=True, blank=True, editable=False)
    """By us; null if it was an operator."""
    disabled_reason = models.CharField(_("disabled because"), max_length=200, blank=True, editable=False)
    tell_at = models.DateTimeField(null=True, editable=False)
    """When its members are told that it was disabled; null: nothing to tell."""
    consecutive_failures = models.PositiveIntegerField(_("failures in a row"), default=0, editable=False)
    last_success_at = models.DateTimeField(_("last delivered"), null=True, blank=True, editable=False)
    last_error = models.CharField(_("last error"), max_length=200, blank=True, editable=False)
    last_error_at = models.DateTimeField(_("last error at"), null=True, blank=True, editable=False)
    lost_events = models.BigIntegerField(_("events lost"), default=0, editable=False)
    """Not delivered within `WEBHOOK_KEEP_DAYS`."""
    lost_at = models.DateTimeField(_("last lost at"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), default=timezone.now, editable=False)

    objects = ScopedQuerySet.as_manager()
    history = HistoricalRecords(
        excluded_fields=[
            *("secret", "previous_secret", "tell_at", "consecutive_failures", "last_success_at", "last_error"),
            *("last_error_at", "lost_events", "lost_at", "from_position", "lanes"),
        ]
    )

    class Meta:
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")

    def __str__(self) -> str:
        return self.description or self.url.split("?")[0]


class WebhookLane(models.Model):
    """A part of an endpoint's events, by message or subscription. One worker at a time delivers from it, in order."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, models.CASCADE, related_name="parts", db_index=False)
    number = models.SmallIntegerField(_("number"))
    lease_id = models.UUIDField(null=True)
    lease_until = models.DateTimeField(_("leased until"), null=True)
    retry_at = models.DateTimeField(_("next attempt"), null=True)
    served_at = models.DateTimeField(_("last served"), null=True)

    class Meta:
        verbose_name = _("webhook lane")
        verbose_name_plural = _("webhook lanes")
        constraints = (models.UniqueConstraint(fields=("endpoint", "number"), name="one_webhook_lane_per_number"),)

    def __str__(self) -> str:
        return f"{self.endpoint_id} · {self.number}"


class EventSource(models.TextChoices):
    """Which table a delivery's events are in."""

    MESSAGES = "message", _("Messages")
    SUBSCRIPTIONS = "subscription", _("Subscriptions")
    TEST = "test", _("Test")


class DeliveryState(models.TextChoices):
    WAITING = "waiting", _("Waiting")
    """For its first attempt or for another one."""
    DELIVERED = "delivered", _("Delivered")
    PARKED = "parked", _("Given up")
    """It failed for `WEBHOOK_RETRY_HOURS` while others were taken; its lane went on without it."""


class WebhookDelivery(models.Model):
    """Up to a hundred events that are one POST. The attempt that is described is the last one."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    endpoint = models.ForeignKey(WebhookEndpoint, models.CASCADE, related_name="deliveries", db_index=False)
    source = models.CharField(_("of"), max_length=16, choices=EventSource.choices)
    lane = models.SmallIntegerField(_("lane"))
    sequence = models.BigIntegerField(_("sequence"))
    """The order within a lane."""
    event_ids = ArrayField(models.UUIDField(), verbose_name=_("events"))
    state = models.CharField(
        _("state"), max_length=16, choices=DeliveryState.choices, default=DeliveryState.WAITING, db_default="waiting"
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0, db_default=0)
    first_attempt_at = models.DateTimeField(_("first attempt"), null=True)
    attempted_at = models.DateTimeField(_("last attempt"), null=True)
    status = models.PositiveSmallIntegerField(_("HTTP status"), null=True)
    duration_ms = models.PositiveIntegerField(_("duration (ms)"), null=True)
    error = models.CharField(_("error"), max_length=200, blank=True, default="", db_default="")
    replay_of = models.UUIDField(_("replay of"), null=True)
    requested_by = models.CharField(_("requested by"), max_length=200, blank=True, default="", db_default="")
    created_at = models.DateTimeField(_("created"), default=timezone.now)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("webhook delivery")
        verbose_name_plural = _("webhook deliveries")
        indexes = (
            models.Index(
                fields=("endpoint", "lane", "sequence"),
                name="webhook_delivery_next",
                condition=models.Q(state="waiting"),
            ),
            models.Index(fields=("endpoint", "id"), name="webhook_delivery_of"),
            models.Index(fields=("application", "id"), name="webhook_delivery_by_app"),
        )

    def __str__(self) -> str:
        return str(self.id)


class WebhookReader(models.Model):
    """How far events have been read: those with a `position` below the watermark are deliveries where anybody asked
    for them, and no others. There is one row."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(_("name"), max_length=16, unique=True)
    watermark = models.BigIntegerField(_("watermark"), default=0)
    sequence = models.BigIntegerField(_("deliveries made"), default=0)
    caught_up_at = models.DateTimeField(_("caught up"), null=True)
    updated_at = models.DateTimeField(_("last step"), default=timezone.now)

    class Meta:
        verbose_name = _("webhook reader")
        verbose_name_plural = _("webhook readers")

    def __str__(self) -> str:
        return self.name
