"""Exports of what was counted and what it cost: the hourly rollups, and the ledger's entries."""

from __future__ import annotations

from typing import ClassVar

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from apps.analytics.exports.columns import Column, ExportResource, Filter, Moment, Plain
from apps.analytics.exports.resources import channel_filter, uuid_filter
from apps.billing.models import AccountKind, AnalyticsDepth, TransactionKind

_NOBODY = "'00000000-0000-0000-0000-000000000000'"


class StatisticsExport(ExportResource):
    """Messages by hour, channel, campaign, template and reason; by the primary key, which begins with both."""

    kind, label, scope = "statistics", _("Statistics"), "analytics:read"
    table, application, key = "analytics_messagehour h", "h.application_id", "h.hour"
    key_type = "timestamptz"
    order = "h.hour, h.channel_type, h.campaign_id, h.template_id, h.reason"
    period_label = _("of the hours")
    depth = AnalyticsDepth.ADVANCED
    filters = (
        channel_filter("h.channel_type"),
        uuid_filter("campaign_id", "h.campaign_id", _("campaign")),
        uuid_filter("template_id", "h.template_id", _("template")),
        Filter(
            "reason", serializers.CharField(max_length=100, required=False), "h.reason = %(reason)s", label=_("reason")
        ),
    )

    hour = Moment("h.hour")
    channel_type = Plain("h.channel_type")
    campaign_id = Plain(f"nullif(h.campaign_id, {_NOBODY})")
    template_id = Plain(f"nullif(h.template_id, {_NOBODY})")
    reason = Column("h.reason")
    sent = Plain("h.sent")
    failed = Plain("h.failed")
    received = Plain("h.received")
    converted = Plain("h.converted")
    errored = Plain("h.errored")
    retried = Plain("h.retried")


class LedgerExport(ExportResource):
    """A row for each entry; those of a transaction add up to zero. By `ledger_by_application`."""

    kind, label, scope = "ledger", _("Ledger"), "billing:read"
    table, application, key = "billing_ledgertransaction t", "t.application_id", "t.id"
    order = "t.id, n.id"
    always = ("n", "a")
    joins: ClassVar = {
        "n": "JOIN billing_ledgerentry n ON n.transaction_id = t.id",
        "a": "JOIN billing_ledgeraccount a ON a.id = n.account_id AND a.application_id = t.application_id",
    }
    period_label = _("when they were posted")
    filters = (
        Filter(
            "transaction_kind",
            serializers.ChoiceField(TransactionKind.choices, required=False),
            "t.kind = %(transaction_kind)s",
            label=_("kind"),
        ),
        Filter(
            "account",
            serializers.ChoiceField(AccountKind.choices, required=False),
            "a.kind = %(account)s",
            label=_("account"),
        ),
        channel_filter("t.channel_type"),
    )

    transaction_id = Plain("t.id")
    posted_at = Moment("t.posted_at")
    transaction_kind = Plain("t.kind")
    channel_type = Plain("t.channel_type")
    account = Plain("a.kind")
    account_channel = Plain("a.channel_type", is_default=False)
    amount = Plain("n.amount")
    currency = Plain("n.amount_currency")
    quantity = Plain("t.quantity")
    unit_price = Plain("t.unit_price")
    reason = Column("t.reason")
    posted_by = Column("t.posted_by")
    reference = Column("t.reference")
