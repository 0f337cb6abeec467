"""What the API of billing takes and answers."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.billing.models import AlertKind, AnalyticsDepth, Feature, TransactionKind
from apps.billing.services.plans import QUOTA_MAX
from apps.tenants.channels import ChannelType
from automata_signal.api import StrictSerializer
from automata_signal.outgoing import URL_LENGTH_MAX

AMOUNT = r"^-?[0-9]{1,13}(\.[0-9]{1,6})?$"
_amount = re.compile(AMOUNT[:-1] + r"\Z")


@extend_schema_field({"type": "string", "pattern": AMOUNT})
class AmountField(serializers.DecimalField):
    """Money as text, `"1500"` or `"0.05"`: a number in JSON may lose what it is."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=20, decimal_places=6, normalize_output=True, **kwargs)

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        """Empty text is no amount; rest framework would take it for null."""
        return serializers.Field.validate_empty_values(self, data)

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str) or not _amount.match(data):
            raise serializers.ValidationError('Must be text: an amount such as "1500" or "0.05".')
        return super().to_internal_value(data)


# --- Plans and quotas --------------------------------------------------------------------------------------------


class PlanOutput(serializers.Serializer[Any]):
    code = serializers.CharField()
    name = serializers.CharField()
    features = serializers.ListField(child=serializers.ChoiceField(Feature.choices))
    analytics_depth = serializers.ChoiceField(AnalyticsDepth.choices)
    applications_max = serializers.IntegerField(allow_null=True, help_text="Of one owner; null: any number.")
    messages_per_second = serializers.IntegerField(allow_null=True, help_text="null: as fast as it goes.")
    retention_days_max = serializers.IntegerField(allow_null=True, help_text="null: any number.")


class CreditOutput(serializers.Serializer[Any]):
    currency = serializers.CharField()
    balance = AmountField(help_text="Of the ledger: without what was sent in the last minute.")
    credit_limit = AmountField(allow_null=True, help_text="How far it may go below zero; null: any distance.")
    available = AmountField(allow_null=True, help_text="What can still be reserved; null: any amount.")


class QuotaOutput(serializers.Serializer[Any]):
    channel_type = serializers.ChoiceField(ChannelType.choices)
    is_included = serializers.BooleanField(help_text="Whether the channel can be used at all.")
    is_own = serializers.BooleanField(help_text="Agreed for this application: stays when the plan changes.")
    daily_quota = serializers.IntegerField(allow_null=True, help_text="null: any number.")
    daily_used = serializers.IntegerField(help_text="Reserved today and not given back.")
    daily_resets_at = serializers.DateTimeField()
    monthly_quota = serializers.IntegerField(allow_null=True)
    monthly_used = serializers.IntegerField()
    monthly_resets_at = serializers.DateTimeField()
    unit_price = AmountField()
    currency = serializers.CharField()
    reserved = serializers.IntegerField(help_text="Accepted, and neither sent nor failed yet.")
    sent_total = serializers.IntegerField(help_text="Ever taken by a provider.")


class PlanStateOutput(serializers.Serializer[Any]):
    plan = PlanOutput()
    credit = CreditOutput()
    quotas = QuotaOutput(many=True)


class PlanInput(StrictSerializer):
    plan = serializers.CharField(max_length=40, help_text="Its code, such as `premium`.")


class QuotaInput(StrictSerializer):
    daily_quota = serializers.IntegerField(min_value=0, max_value=QUOTA_MAX, allow_null=True)
    monthly_quota = serializers.IntegerField(min_value=0, max_value=QUOTA_MAX, allow_null=True)
    unit_price = AmountField()


# --- Ledger --------------------------------------------------------------------------------------------------------


class EntryOutput(serializers.Serializer[Any]):
    account = serializers.CharField(source="account.kind")
    channel_type = serializers.CharField(source="account.channel_type", help_text="Of usage; else empty.")
    amount = AmountField(source="amount.amount", help_text="Positive: to the account; negative: from it.")


class TransactionOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(TransactionKind.choices)
    channel_type = serializers.CharField()
    quantity = serializers.IntegerField(help_text="Messages, of usage.")
    unit_price = AmountField(source="unit_price.amount")
    currency = serializers.CharField(source="unit_price.currency")
    reason = serializers.CharField()
    posted_by = serializers.CharField()
    reference = serializers.CharField()
    posted_at = serializers.DateTimeField()
    entries = EntryOutput(many=True, help_text="Add up to zero.")


class LedgerQuery(StrictSerializer):
    kind = serializers.ChoiceField(TransactionKind.choices, required=False)


class MoneyInput(StrictSerializer):
    amount = AmountField()
    currency = serializers.RegexField(r"^[A-Z]{3}$", required=False, help_text="The application's unless told.")
    reason = serializers.CharField(max_length=500, help_text="Why; stands in the ledger and on the statement.")
    reference = serializers.CharField(
        max_length=100,
        required=False,
        allow_blank=True,
        help_text="Your own number: a second request with it moves nothing and answers with the first posting.",
    )


# --- Statements ----------------------------------------------------------------------------------------------------


class StatementQuery(StrictSerializer):
    format = serializers.ChoiceField(("json", "csv"), required=False)
    bom = serializers.ChoiceField(("true", "false"), default="false", help_text="A byte order mark, for Excel.")


class UsageLineOutput(serializers.Serializer[Any]):
    channel_type = serializers.CharField()
    messages = serializers.IntegerField()
    unit_price = AmountField()
    amount = AmountField(help_text="What they cost.")


class MovementOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(TransactionKind.choices)
    amount = AmountField(help_text="What it did to the credit.")
    reason = serializers.CharField()
    posted_by = serializers.CharField()
    reference = serializers.CharField()
    posted_at = serializers.DateTimeField()


class StatementOutput(serializers.Serializer[Any]):
    """Opening credit + top-ups + adjustments + refunds − usage is the closing credit."""

    month = serializers.CharField()
    since = serializers.DateTimeField(help_text="In the application's time zone.")
    until = serializers.DateTimeField(help_text="The first moment of the next month.")
    is_closed = serializers.BooleanField(help_text="The month is over.")
    currency = serializers.CharField()
    opening_credit = AmountField()
    messages = serializers.IntegerField()
    usage = AmountField()
    top_ups = AmountField()
    adjustments = AmountField()
    refunds = AmountField()
    closing_credit = AmountField()
    lines = UsageLineOutput(many=True, help_text="Usage by channel and price.")
    movements = MovementOutput(many=True, help_text="Top-ups, adjustments and refunds, the first 1,000.")


# --- Alerts --------------------------------------------------------------------------------------------------------


class AlertOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(AlertKind.choices)
    channel_type = serializers.CharField()
    threshold = serializers.IntegerField(help_text="80 or 100, of quotas.")
    facts = serializers.DictField(help_text="The figures of the moment when it was found out.")
    created_at = serializers.DateTimeField()
    emailed_at = serializers.DateTimeField(allow_null=True)
    webhook_at = serializers.DateTimeField(allow_null=True)
    attempts = serializers.IntegerField()
    last_error = serializers.CharField()
    is_open = serializers.SerializerMethodField(help_text="Something is still to be delivered.")

    def get_is_open(self, alert: Any) -> bool:
        return alert.due_at is not None


class AlertSettingsOutput(serializers.Serializer[Any]):
    low_credit_at = AmountField(allow_null=True, help_text="null: no alert about credit.")
    currency = serializers.CharField()
    webhook_url = serializers.CharField()
    has_webhook_secret = serializers.BooleanField()
    webhook_secret = serializers.CharField(
        required=False, help_text="Only in the answer to the request that made it; it is not shown again."
    )


class AlertSettingsInput(StrictSerializer):
    low_credit_at = AmountField(required=False, allow_null=True)
    webhook_url = serializers.CharField(
        max_length=URL_LENGTH_MAX,
        required=False,
        allow_blank=True,
        help_text="https, of the public internet; empty: none.",
    )
    rotate_webhook_secret = serializers.BooleanField(required=False, help_text="Make a new secret now.")
