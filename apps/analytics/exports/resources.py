"""Exports of messages and their events, of users, and of subscriptions and theirs.

A row's id is a UUIDv7, so a period is a range of the key: that of when the row was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from apps.analytics.exports.columns import (
    HIDDEN,
    Column,
    ExportResource,
    Filter,
    Flag,
    Moment,
    Plain,
    Sealed,
    hidden,
    masked_name,
)
from apps.messaging.models import Dispatch, MessageStatus
from apps.messaging.retry import Fault
from apps.subscriptions.models import SubscriptionEventType, SubscriptionType
from apps.tenants.channels import ChannelType
from automata_signal.encryption import DecryptionError, keyring

REASON_MAX = 100


def masked_token(sealed: bytes) -> str:
    """`Subscription.masked_token` of a ciphertext; `…` also if it cannot be read."""
    try:
        token = keyring().decrypt(sealed).decode()
    except (DecryptionError, UnicodeDecodeError):
        return "…"
    return f"{token[:4]}…{token[-4:]}" if len(token) > 16 else "…"


def channel_filter(column: str) -> Filter:
    field = serializers.ChoiceField(ChannelType.choices, required=False)
    return Filter("channel_type", field, f"{column} = %(channel_type)s", label=_("channel"))


def country_filter(joins: tuple[str, ...] = ("s",)) -> Filter:
    field = serializers.CharField(max_length=2, required=False)
    return Filter("country", field, "s.country_code = %(country)s", joins, label=_("country"))


def uuid_filter(name: str, column: str, label: Any) -> Filter:
    return Filter(name, serializers.UUIDField(required=False), f"{column} = %({name})s", label=label)


_USER = "LEFT JOIN subscriptions_appuser u ON u.id = {0}.user_id AND u.application_id = {0}.application_id"
_SUBSCRIPTION = (
    "LEFT JOIN subscriptions_subscription s ON s.id = {0}.subscription_id AND s.application_id = {0}.application_id"
)
_DISPATCH = "LEFT JOIN messaging_dispatch d ON d.id = m.dispatch_id AND d.application_id = m.application_id"
_VERSION = "LEFT JOIN messaging_messagetemplateversion v ON v.id = d.template_version_id"
# What was rendered for one person, and what was sent to named ones, may be about them: only a campaign's own is not.


def _content(column: str) -> str:
    return f"(CASE WHEN m.title IS NULL THEN d.{column} ELSE m.{column} END)::text"


def _masked_content(column: str) -> str:
    return f"CASE WHEN m.title IS NULL AND d.audience IS NOT NULL THEN d.{column}::text ELSE {HIDDEN} END"


class _OfMessages(ExportResource):
    """Rows that are found by messages: `message_by_application`."""

    scope, table, application, key = "messages:read", "messaging_message m", "m.application_id", "m.id"
    joins: ClassVar = {"d": _DISPATCH, "v": _VERSION, "u": _USER.format("m"), "s": _SUBSCRIPTION.format("m")}
    filters: ClassVar[tuple[Filter, ...]] = (
        uuid_filter("campaign_id", "m.campaign_id", _("campaign")),
        channel_filter("m.channel_type"),
        Filter(
            "error_reason",
            serializers.CharField(max_length=REASON_MAX, required=False),
            "m.error_reason = %(error_reason)s",
            label=_("reason"),
        ),
        Filter(
            "error_class",
            serializers.ChoiceField([fault.value for fault in Fault], required=False),
            "m.error_details->>'class' = %(error_class)s",
            label=_("whose fault"),
        ),
        country_filter(),
        Filter(
            "subscription_type",
            serializers.ChoiceField(SubscriptionType.choices, required=False),
            "s.type = %(subscription_type)s",
            ("s",),
            label=_("type"),
        ),
        uuid_filter("subscription_id", "m.subscription_id", _("subscription")),
        uuid_filter("user_id", "m.user_id", _("user")),
    )

    @classmethod
    def first_key(cls, filters: Mapping[str, Any], application_id: UUID) -> UUID | None:
        """A message's id is made after its dispatch's, so nothing older can belong to the campaign."""
        if "campaign_id" not in filters:
            return None
        dispatches = Dispatch.objects.filter(application_id=application_id, campaign_id=filters["campaign_id"])
        return dispatches.order_by("id").values_list("id", flat=True).first()


class MessagesExport(_OfMessages):
    kind, label = "messages", _("Messages")
    period_label = _("when they were accepted")
    filters = (
        *_OfMessages.filters,
        Filter(
            "status",
            serializers.ChoiceField(MessageStatus.choices, required=False),
            "m.status = %(status)s",
            label=_("status"),
        ),
    )

    id = Plain("m.id")
    status = Plain("m.status")
    channel_type = Plain("m.channel_type")
    priority = Plain("d.priority", "d", is_default=False)
    campaign_id = Plain("m.campaign_id")
    variant = Plain("d.variant", "d", is_default=False)
    template_id = Plain("v.template_id", "d", "v", is_default=False)
    template_version = Plain("v.version", "d", "v", is_default=False)
    subscription_id = Plain("m.subscription_id")
    subscription_type = Plain("s.type", "s", is_default=False)
    country_code = Column("s.country_code", "s", is_default=False)
    user_id = Plain("m.user_id")
    external_id = Column("u.external_id", "u", masked=masked_name("u.external_id"))
    attempts = Plain("m.attempts")
    created_at = Moment("m.created_at")
    sent_at = Moment("m.sent_at")
    received_at = Moment("m.received_at")
    converted_at = Moment("m.converted_at")
    failed_at = Moment("m.failed_at")
    retry_at = Moment("m.retry_at", is_default=False)
    error_reason = Column("m.error_reason")
    error_class = Column("m.error_details->>'class'")
    requeued_from = Plain("m.requeued_from", is_default=False)
    requeued_as = Plain("m.requeued_as", is_default=False)
    title = Column(_content("title"), "d", masked=_masked_content("title"), is_default=False)
    body = Column(_content("body"), "d", masked=_masked_content("body"), is_default=False)
    data = Column(_content("data"), "d", masked=_masked_content("data"), is_default=False)


# OFFSET 0: as a join of inequalities PostgreSQL would take it for a third of all events, and read them all each time.
_EVENTS = (
    "CROSS JOIN LATERAL (SELECT * FROM messaging_messageevent WHERE id > m.id"
    " AND id <= (left(m.id::text, 34) || 'ff')::uuid AND application_id = m.application_id OFFSET 0) e"
)


class MessageEventsExport(_OfMessages):
    """Events have no index by application, but those of a message are a range of their primary key."""

    kind, label = "message_events", _("Message events")
    period_label = _("when their messages were accepted")
    order = "e.id"
    always = ("e",)
    joins: ClassVar = {
        "e": _EVENTS,
        **_OfMessages.joins,
    }
    filters = (
        *_OfMessages.filters,
        Filter(
            "event_type",
            serializers.ChoiceField(MessageStatus.choices, required=False),
            "e.event_type = %(event_type)s",
            label=_("event"),
        ),
    )

    id = Plain("e.id")
    message_id = Plain("m.id")
    event_type = Plain("e.event_type")
    occurred_at = Moment("e.occurred_at")
    channel_type = Plain("m.channel_type")
    campaign_id = Plain("m.campaign_id")
    template_id = Plain("v.template_id", "d", "v", is_default=False)
    subscription_id = Plain("m.subscription_id")
    subscription_type = Plain("s.type", "s", is_default=False)
    country_code = Column("s.country_code", "s", is_default=False)
    user_id = Plain("m.user_id")
    external_id = Column("u.external_id", "u", masked=masked_name("u.external_id"))
    error_reason = Column("m.error_reason", is_default=False)
    metadata = Column("e.metadata::text", masked=hidden("e.metadata::text"), is_default=False)


class UsersExport(ExportResource):
    """By `user_by_application`."""

    kind, label, scope = "users", _("Users"), "users:read"
    table, application, key = "subscriptions_appuser u", "u.application_id", "u.id"
    needs_period = False
    period_label = _("when they were made")
    filters = (
        Filter(
            "archived", serializers.BooleanField(required=False), "u.is_archived = %(archived)s", label=_("archived")
        ),
        Filter(
            "active_since",
            serializers.DateTimeField(required=False),
            "u.last_active_at >= %(active_since)s",
            label=_("active since"),
        ),
    )

    id = Plain("u.id")
    external_id = Column("u.external_id", masked=masked_name("u.external_id"))
    properties = Column("u.properties::text", masked=hidden("nullif(u.properties, '{}')::text"))
    created_at = Moment("u.created_at")
    updated_at = Moment("u.updated_at", is_default=False)
    last_active_at = Moment("u.last_active_at")
    is_archived = Flag("u.is_archived")
    archived_at = Moment("u.archived_at", is_default=False)


# As the console's list of subscriptions has them.
_BY_STATUS = """CASE %(status)s
    WHEN 'reachable' THEN s.subscription_status > 0 AND NOT s.is_archived
    WHEN 'ended' THEN s.subscription_status IN (0, -2, -22, -31, -98, -99)
    WHEN 'archived' THEN s.is_archived
    ELSE s.subscription_status < -2 AND s.subscription_status NOT IN (-22, -31, -98, -99) END"""


class SubscriptionsExport(ExportResource):
    """By `subscription_by_application`."""

    kind, label, scope = "subscriptions", _("Subscriptions"), "subscriptions:read"
    table, application, key = "subscriptions_subscription s", "s.application_id", "s.id"
    joins: ClassVar = {"u": _USER.format("s")}
    needs_period = False
    period_label = _("when they were made")
    filters = (
        Filter(
            "type",
            serializers.ChoiceField(SubscriptionType.choices, required=False),
            "s.type = %(type)s",
            label=_("type"),
        ),
        Filter(
            "status",
            serializers.ChoiceField(
                [
                    ("reachable", _("Reachable")),
                    ("ended", _("Ended or never begun")),
                    ("error", _("Ended by an error")),
                    ("archived", _("Archived")),
                ],
                required=False,
            ),
            _BY_STATUS,
            label=_("status"),
        ),
        country_filter(()),
        Filter(
            "active_since",
            serializers.DateTimeField(required=False),
            "s.last_active_at >= %(active_since)s",
            label=_("active since"),
        ),
        uuid_filter("user_id", "s.user_id", _("user")),
    )

    id = Plain("s.id")
    type = Plain("s.type")
    user_id = Plain("s.user_id")
    external_id = Column("u.external_id", "u", masked=masked_name("u.external_id"))
    subscription_status = Plain("s.subscription_status")
    status_source = Column("s.status_source")
    is_archived = Flag("s.is_archived")
    device_model = Column("s.device_model")
    device_os = Column("s.device_os")
    device_language = Column("s.device_language")
    country_code = Column("s.country_code")
    app_version = Column("s.app_version")
    sdk_version = Column("s.sdk_version")
    test_type = Plain("s.test_type", is_default=False)
    tags = Column("s.tags::text", masked=hidden("nullif(s.tags, '{}')::text"))
    subscribed_at = Moment("s.subscribed_at")
    unsubscribed_at = Moment("s.unsubscribed_at")
    last_active_at = Moment("s.last_active_at")
    total_messages_received = Plain("s.total_messages_received")
    total_messages_converted = Plain("s.total_messages_converted")
    created_at = Moment("s.created_at")
    updated_at = Moment("s.updated_at", is_default=False)
    archived_at = Moment("s.archived_at", is_default=False)
    token = Sealed("s.token", masked_token, label=_("token or address, masked"))


class SubscriptionEventsExport(ExportResource):
    """By `subscription_event_by_app`."""

    kind, label, scope = "subscription_events", _("Subscription events"), "subscriptions:read"
    table, application, key = "subscriptions_subscriptionevent e", "e.application_id", "e.id"
    joins: ClassVar = {"u": _USER.format("e"), "s": _SUBSCRIPTION.format("e")}
    period_label = _("when they were recorded")
    filters = (
        Filter(
            "event_type",
            serializers.ChoiceField(SubscriptionEventType.choices, required=False),
            "e.event_type = %(event_type)s",
            label=_("event"),
        ),
        Filter(
            "type",
            serializers.ChoiceField(SubscriptionType.choices, required=False),
            "e.channel = %(type)s",
            label=_("type"),
        ),
        Filter(
            "source", serializers.CharField(max_length=16, required=False), "e.source = %(source)s", label=_("source")
        ),
        Filter(
            "reason", serializers.CharField(max_length=200, required=False), "e.reason = %(reason)s", label=_("reason")
        ),
        country_filter(),
        uuid_filter("subscription_id", "e.subscription_id", _("subscription")),
    )

    id = Plain("e.id")
    subscription_id = Plain("e.subscription_id")
    type = Plain("e.channel")
    user_id = Plain("e.user_id")
    external_id = Column("u.external_id", "u", masked=masked_name("u.external_id"))
    event_type = Plain("e.event_type")
    source = Column("e.source")
    reason = Column("e.reason")
    old_status = Plain("e.old_status")
    new_status = Plain("e.new_status")
    occurred_at = Moment("e.occurred_at")
    country_code = Column("s.country_code", "s", is_default=False)
