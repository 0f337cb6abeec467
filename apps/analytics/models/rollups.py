"""What is kept of what happened: counts by the hour, which questions read instead of messages and events.

Rows are made and added to by the fills (`apps.analytics.fills`); `apps.analytics.metrics` says of each table what is
counted, and from what. `hour` is when an hour of the application's own clock began: it also fits where clocks are half
an hour off. "None" (no campaign, no template) is `NOBODY`, since a key cannot be null.

No database foreign keys: a fill of many applications is never refused because of one that was deleted meanwhile.
"""

from __future__ import annotations

from uuid import UUID

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.subscriptions.models import SubscriptionType
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.ids import new_id

NOBODY = UUID(int=0)
"""The campaign of a message without one, and the template."""
VALUE_MAX = 64
"""Characters of a device's attribute that are told apart."""


class RollupRow(models.Model):
    """What the tables share: rows of an application, whose key is what they are counted by."""

    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_constraint=False, db_index=False)
    hour = models.DateTimeField(_("hour"))

    objects = ScopedQuerySet.as_manager()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:%M}"


class MessageHour(RollupRow):
    """Transitions of messages, in the hour in which they occurred.

    A message counts in `sent` when a provider takes it, and again in each further state that it gets to. `reason` is
    that of what failed, or was put off (`errored`); empty for the rest.
    """

    pk = models.CompositePrimaryKey("application_id", "hour", "channel_type", "campaign_id", "template_id", "reason")
    channel_type = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices)
    campaign_id = models.UUIDField(_("campaign"), default=NOBODY)
    template_id = models.UUIDField(_("template"), default=NOBODY)
    reason = models.CharField(_("reason"), max_length=100, default="")
    sent = models.BigIntegerField(_("sent"), default=0)
    failed = models.BigIntegerField(_("failed"), default=0)
    received = models.BigIntegerField(_("received"), default=0)
    converted = models.BigIntegerField(_("converted"), default=0)
    errored = models.BigIntegerField(_("put off"), default=0)
    retried = models.BigIntegerField(_("retried"), default=0)

    class Meta:
        verbose_name = _("messages of an hour")
        verbose_name_plural = _("messages by hour")


class Dimension(models.TextChoices):
    """Attributes of devices that messages are told apart by, and those of the SDK's own figures."""

    COUNTRY = "country", _("Country")
    DEVICE_MODEL = "device_model", _("Device")
    OS = "os", _("Operating system")
    APP_VERSION = "app_version", _("App version")
    SDK_VERSION = "sdk_version", _("SDK version")
    SDK_ERROR = "sdk_error", _("Client error")


DEVICE_DIMENSIONS = (Dimension.COUNTRY, Dimension.DEVICE_MODEL, Dimension.OS, Dimension.APP_VERSION)


class DeviceHour(RollupRow):
    """Transitions of messages by one attribute of the devices that they went to."""

    pk = models.CompositePrimaryKey("application_id", "dimension", "hour", "channel_type", "value")
    dimension = models.CharField(_("by"), max_length=16, choices=Dimension.choices)
    channel_type = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices)
    value = models.CharField(_("value"), max_length=VALUE_MAX)
    """Empty: not known. `other`: there were too many (`DimensionValue`)."""
    sent = models.BigIntegerField(_("sent"), default=0)
    failed = models.BigIntegerField(_("failed"), default=0)
    received = models.BigIntegerField(_("received"), default=0)
    converted = models.BigIntegerField(_("converted"), default=0)

    class Meta:
        verbose_name = _("messages of an hour by device")
        verbose_name_plural = _("messages by hour and device")


class DimensionValue(models.Model):
    """A value that is told apart in a month (UTC); once there are `metrics.VALUES_MAX`, new ones are `other`.

    So what somebody writes into a device's attributes cannot grow the tables without bound, and a rebuild tells the
    same values apart as the first time.
    """

    pk = models.CompositePrimaryKey("application_id", "month", "dimension", "value")
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_constraint=False, db_index=False)
    month = models.DateField(_("month"))
    dimension = models.CharField(_("by"), max_length=16, choices=Dimension.choices)
    value = models.CharField(_("value"), max_length=VALUE_MAX)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("value of a dimension")
        verbose_name_plural = _("values of dimensions")

    def __str__(self) -> str:
        return f"{self.dimension}: {self.value}"


class Wait(models.TextChoices):
    """What is waited for after a message was sent."""

    RECEIPT = "receipt", _("Receipt")
    OPEN = "open", _("Open")


class WaitHour(RollupRow):
    """How long receipts and opens took after sending, as a histogram: `metrics.WAIT_BOUNDS_S` are its bounds."""

    pk = models.CompositePrimaryKey("application_id", "wait", "hour", "channel_type", "campaign_id", "bucket")
    wait = models.CharField(_("time to"), max_length=8, choices=Wait.choices)
    channel_type = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices)
    campaign_id = models.UUIDField(_("campaign"), default=NOBODY)
    bucket = models.SmallIntegerField(_("bucket"))
    """Number of the bounds that the time is not below: 0 is less than the first."""
    messages = models.BigIntegerField(_("messages"), default=0)

    class Meta:
        verbose_name = _("waiting times of an hour")
        verbose_name_plural = _("waiting times by hour")


class SubscriptionHour(RollupRow):
    """Subscriptions that were gained and lost, by who said so and the status that they got."""

    pk = models.CompositePrimaryKey("application_id", "hour", "subscription_type", "source", "status")
    subscription_type = models.CharField(_("type"), max_length=16, choices=SubscriptionType.choices)
    source = models.CharField(_("source"), max_length=16)
    status = models.SmallIntegerField(_("status"))
    """The new `subscription_status`: why a subscription was lost."""
    registered = models.BigIntegerField(_("registered"), default=0)
    gained = models.BigIntegerField(_("gained"), default=0)
    lost = models.BigIntegerField(_("lost"), default=0)

    class Meta:
        verbose_name = _("subscriptions of an hour")
        verbose_name_plural = _("subscriptions by hour")


class AudienceDay(models.Model):
    """How many there were when a day of the application ended: users (`subscription_type` empty), and subscriptions of
    each type. Taken once a day from the rows themselves; a day that was missed stays unknown."""

    pk = models.CompositePrimaryKey("application_id", "day", "subscription_type")
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_constraint=False, db_index=False)
    day = models.DateField(_("day"))
    subscription_type = models.CharField(_("type"), max_length=16, choices=SubscriptionType.choices, blank=True)
    total = models.BigIntegerField(_("total"), default=0)
    reachable = models.BigIntegerField(_("reachable"), default=0)
    """Subscribed; of users: who have a subscription that is."""
    active_1d = models.BigIntegerField(_("active that day"), default=0)
    active_7d = models.BigIntegerField(_("active in 7 days"), default=0)
    active_30d = models.BigIntegerField(_("active in 30 days"), default=0)
    taken_at = models.DateTimeField(_("taken"), default=timezone.now)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("audience of a day")
        verbose_name_plural = _("audience by day")

    def __str__(self) -> str:
        return f"{self.day} {self.subscription_type}"


class SdkFigure(models.TextChoices):
    INITIALISED = "initialised", _("Initialised")
    """`label` is the bucket of its duration: `metrics.INITIALISATION_BOUNDS_MS`."""
    REGISTRATION_OK = "registration_ok", _("Registered")
    REGISTRATION_FAILED = "registration_failed", _("Registration failed")
    IDENTIFICATION_OK = "identification_ok", _("Identified")
    IDENTIFICATION_FAILED = "identification_failed", _("Identification failed")
    CLIENT_ERROR = "client_error", _("Client error")
    """`label` is its code."""


class SdkHour(RollupRow):
    """What SDKs say of themselves (`apps.analytics.sdk_figures`)."""

    pk = models.CompositePrimaryKey("application_id", "hour", "platform", "sdk_version", "figure", "label")
    platform = models.CharField(_("platform"), max_length=16)
    sdk_version = models.CharField(_("SDK version"), max_length=VALUE_MAX)
    figure = models.CharField(_("figure"), max_length=24, choices=SdkFigure.choices)
    label = models.CharField(_("label"), max_length=VALUE_MAX, default="")
    count = models.BigIntegerField(_("count"), default=0)

    class Meta:
        verbose_name = _("SDK figures of an hour")
        verbose_name_plural = _("SDK figures by hour")


class FillState(models.Model):
    """How far a fill is: events with a `position` below the watermark are counted, and no others."""

    name = models.CharField(_("source"), max_length=32, primary_key=True)
    watermark = models.BigIntegerField(_("watermark"), default=0)
    is_ahead = models.BooleanField(_("restored from a dump"), default=False)
    """The watermark was seen ahead of this cluster's transactions; nothing is filled until `analytics_rebuild`."""
    events = models.BigIntegerField(_("events counted"), default=0)
    caught_up_at = models.DateTimeField(_("caught up"), null=True)
    """When all that was committed then had been counted, but for what a transaction still held back."""
    updated_at = models.DateTimeField(_("last step"), default=timezone.now)

    class Meta:
        verbose_name = _("fill")
        verbose_name_plural = _("fills")

    def __str__(self) -> str:
        return self.name


class Rebuild(models.Model):
    """A rebuild in progress (`apps.analytics.rebuild`); it goes on where it was after a crash. There is one at most."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    asked = models.JSONField(_("asked for"), default=dict)
    begins = models.JSONField(_("applications"), default=dict)
    """From which hour on, by application; what is older stays as it is."""
    watermarks = models.JSONField(_("watermarks"), default=dict)
    """How far each source has been counted anew."""
    events = models.BigIntegerField(_("events counted"), default=0)
    created_at = models.DateTimeField(_("begun"), default=timezone.now)
    updated_at = models.DateTimeField(_("last step"), default=timezone.now)

    class Meta:
        verbose_name = _("rebuild")
        verbose_name_plural = _("rebuilds")

    def __str__(self) -> str:
        return str(self.id)
