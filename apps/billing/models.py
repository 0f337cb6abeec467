"""What may be sent and what it costs: plans, quotas, the ledger and the alerts about them.

Plan            what an application may do: features, quotas and prices by channel
  └ BillingProfile  which plan an application has, its currency and how far its credit may go below zero
      ├ MessageQuota    a channel's quotas and what was used of them; the only row that sending touches
      ├ LedgerAccount   a balance; of each application: credit, usage by channel, revenue, adjustments, funding
      └ LedgerTransaction └ LedgerEntry   written, never changed; the entries of a transaction sum to zero
"""

from __future__ import annotations

from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from djmoney.models.fields import MoneyField
from djmoney.money import Money
from simple_history.models import HistoricalRecords

from apps.tenants.channels import ChannelType
from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.encryption import EncryptedTextField
from automata_signal.ids import new_id

DEFAULT_CURRENCY = "KRW"
MONEY = {"max_digits": 20, "decimal_places": 6, "default_currency": DEFAULT_CURRENCY}
"""Prices of a message are fractions of the smallest coin, so amounts have six decimals."""


class Feature(models.TextChoices):
    """What a plan can include beyond sending (companion design, plan matrix)."""

    API = "api", _("API for app servers")
    CAMPAIGNS = "campaigns", _("Campaigns")
    EXPORTS = "exports", _("Exports and scheduled reports")


class AnalyticsDepth(models.TextChoices):
    BASIC = "basic", _("Basic: totals by day and channel")
    ADVANCED = "advanced", _("Advanced: by hour, campaign, template, country, device")
    FULL = "full", _("Full: also distributions, SDK figures and comparisons")


class Plan(models.Model):
    """A set of limits that applications can have; operators of the platform define more."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    code = models.SlugField(_("code"), max_length=40, unique=True)
    name = models.CharField(_("name"), max_length=100)
    applications_max = models.PositiveIntegerField(_("applications"), null=True, blank=True)
    """How many applications an owner of one on this plan may have; null: any number."""
    messages_per_second = models.PositiveIntegerField(_("messages per second"), null=True, blank=True)
    features = ArrayField(
        models.CharField(max_length=20, choices=Feature.choices), verbose_name=_("features"), default=list, blank=True
    )
    analytics_depth = models.CharField(
        _("analytics"), max_length=10, choices=AnalyticsDepth.choices, default=AnalyticsDepth.BASIC
    )
    retention_days_max = models.PositiveIntegerField(_("retention (days)"), null=True, blank=True)
    is_active = models.BooleanField(_("can be chosen"), default=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    history = HistoricalRecords()

    class Meta:
        verbose_name = _("plan")
        verbose_name_plural = _("plans")
        ordering = ("created_at", "id")

    def __str__(self) -> str:
        return self.name


class PlanChannel(models.Model):
    """The quotas and the price of one channel in a plan. A channel without a row is not included."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    plan = models.ForeignKey(Plan, models.CASCADE, related_name="channels")
    channel_type = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices)
    daily_quota = models.PositiveBigIntegerField(_("messages per day"), null=True, blank=True)
    """Null: no limit."""
    monthly_quota = models.PositiveBigIntegerField(_("messages per month"), null=True, blank=True)
    unit_price = MoneyField(_("price of a message"), default=Decimal(0), **MONEY)

    history = HistoricalRecords()

    class Meta:
        verbose_name = _("channel of a plan")
        verbose_name_plural = _("channels of plans")
        constraints = (
            models.UniqueConstraint(fields=("plan", "channel_type"), name="one_row_per_plan_channel"),
            models.CheckConstraint(condition=Q(unit_price__gte=0), name="plan_price_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.plan} · {self.get_channel_type_display()}"


class BillingProfile(models.Model):
    """How one application is billed. Made with the application, on the plan `settings.DEFAULT_PLAN`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.OneToOneField(Application, models.CASCADE, related_name="billing")
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="profiles")
    currency = models.CharField(_("currency"), max_length=3, default=DEFAULT_CURRENCY)
    credit_limit = models.DecimalField(
        _("credit limit"), max_digits=20, decimal_places=6, default=Decimal(0), null=True, blank=True
    )
    """How far the balance may go below zero; null: any distance (billed afterwards)."""
    low_credit_at = models.DecimalField(
        _("alert below this credit"), max_digits=20, decimal_places=6, null=True, blank=True
    )
    low_credit_alerted = models.BooleanField(default=False, editable=False)
    """Told that the credit is low; false again once it is not."""
    alert_webhook_url = models.URLField(_("webhook for alerts"), max_length=500, blank=True)
    alert_webhook_secret = EncryptedTextField(_("secret of the webhook"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = ScopedQuerySet.as_manager()
    history = HistoricalRecords(excluded_fields=["alert_webhook_secret", "low_credit_alerted"])

    class Meta:
        verbose_name = _("billing profile")
        verbose_name_plural = _("billing profiles")

    def __str__(self) -> str:
        return f"{self.application} · {self.plan}"


class MessageQuota(models.Model):
    """What an application may send on one channel, and has (specification 3.3, MESSAGE_QUOTA).

    `daily_used` and `monthly_used` are what was reserved in the period and not given back. Days and months are those of
    the application's time zone; a row whose `reset_date` is past counts from zero at the next reservation.

    `reserved` messages are accepted and open; `sent_total` were taken by a provider, of which `posted_total` are in the
    ledger. No index names a counter, so that updates stay HOT.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="quotas", db_index=False)
    channel_type = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices)
    is_own = models.BooleanField(_("agreed for this application"), default=False)
    """Quotas and price were agreed for the application and stay when the plan changes."""
    daily_quota = models.PositiveBigIntegerField(_("messages per day"), null=True, blank=True)
    monthly_quota = models.PositiveBigIntegerField(_("messages per month"), null=True, blank=True)
    daily_used = models.PositiveBigIntegerField(_("used today"), default=0, editable=False)
    monthly_used = models.PositiveBigIntegerField(_("used this month"), default=0, editable=False)
    day_began_at = models.DateTimeField(_("day began"), editable=False)
    month_began_at = models.DateTimeField(_("month began"), editable=False)
    """What was reserved before is of an earlier day or month, and given back to neither."""
    reset_date = models.DateTimeField(_("day ends"), editable=False)
    monthly_reset_date = models.DateTimeField(_("month ends"), editable=False)
    unit_price = MoneyField(_("price of a message"), default=Decimal(0), **MONEY)
    reserved = models.PositiveBigIntegerField(_("reserved"), default=0, editable=False)
    sent_total = models.PositiveBigIntegerField(_("sent"), default=0, editable=False)
    posted_total = models.PositiveBigIntegerField(_("in the ledger"), default=0, editable=False)
    forgotten_total = models.PositiveBigIntegerField(_("deleted by retention"), default=0, editable=False)
    """Of `sent_total`: messages that retention has deleted since."""
    daily_alerted = models.PositiveSmallIntegerField(default=0, editable=False)
    monthly_alerted = models.PositiveSmallIntegerField(default=0, editable=False)
    """The highest threshold (80 or 100) that was alerted about in this period."""
    updated_at = models.DateTimeField(_("changed"), default=timezone.now, editable=False)

    objects = ScopedQuerySet.as_manager()
    history = HistoricalRecords(
        excluded_fields=[
            *("daily_used", "monthly_used", "day_began_at", "month_began_at", "reset_date", "monthly_reset_date"),
            *("reserved", "sent_total"),
            *("posted_total", "forgotten_total", "daily_alerted", "monthly_alerted", "updated_at"),
        ]
    )

    class Meta:
        verbose_name = _("message quota")
        verbose_name_plural = _("message quotas")
        constraints = (
            models.UniqueConstraint(fields=("application", "channel_type"), name="one_quota_per_channel"),
            models.CheckConstraint(condition=Q(posted_total__lte=F("sent_total")), name="quota_posted_was_sent"),
            models.CheckConstraint(condition=Q(unit_price__gte=0), name="quota_price_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.application} · {self.get_channel_type_display()}"

    @property
    def billing_currency(self) -> str:
        return str(self.unit_price.currency)

    @property
    def credit_balance(self) -> Money:
        """The specification's column: the balance of the application's credit account."""
        account = LedgerAccount.objects.filter(application_id=self.application_id, kind=AccountKind.CREDIT).first()
        return account.balance if account else Money(0, self.billing_currency)


class AccountKind(models.TextChoices):
    CREDIT = "credit", _("Credit")
    """What the application has left to spend."""
    USAGE = "usage", _("Usage")
    """What its messages cost since the last month was closed, by channel."""
    REVENUE = "revenue", _("Revenue")
    """Usage of closed months."""
    ADJUSTMENTS = "adjustments", _("Adjustments")
    """The other side of corrections and refunds."""
    FUNDING = "funding", _("Funding")
    """The other side of top-ups: what was paid in."""


class LedgerAccount(models.Model):
    """One balance. It is the sum of its entries, kept in the transaction that writes them."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.PROTECT, related_name="ledger_accounts", db_index=False)
    kind = models.CharField(_("account"), max_length=12, choices=AccountKind.choices)
    channel_type = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices, blank=True)
    """Of usage; empty for the others."""
    balance = MoneyField(_("balance"), default=Decimal(0), **MONEY)
    updated_at = models.DateTimeField(_("changed"), default=timezone.now)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("ledger account")
        verbose_name_plural = _("ledger accounts")
        constraints = (
            models.UniqueConstraint(fields=("application", "kind", "channel_type"), name="one_ledger_account_per_kind"),
        )

    def __str__(self) -> str:
        return " · ".join(filter(None, (self.get_kind_display(), self.channel_type)))


class TransactionKind(models.TextChoices):
    USAGE = "usage", _("Usage")
    TOP_UP = "top_up", _("Top-up")
    ADJUSTMENT = "adjustment", _("Adjustment")
    REFUND = "refund", _("Refund")
    CLOSING = "closing", _("Closing of a month")


class LedgerTransaction(models.Model):
    """One posting: written, never changed (a trigger refuses it). Its entries sum to zero (a constraint, on commit)."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.PROTECT, related_name="ledger", db_index=False)
    kind = models.CharField(_("kind"), max_length=12, choices=TransactionKind.choices)
    channel_type = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices, blank=True)
    quantity = models.PositiveBigIntegerField(_("messages"), default=0)
    unit_price = MoneyField(_("price of a message"), default=Decimal(0), **MONEY)
    """Of usage."""
    reason = models.CharField(_("why"), max_length=500, blank=True)
    posted_by = models.CharField(_("by"), max_length=200, blank=True)
    reference = models.CharField(_("reference"), max_length=100, blank=True)
    """The caller's own number of a top-up, adjustment or refund: a second one with it is the first one again."""
    posted_at = models.DateTimeField(_("posted"), default=timezone.now)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("ledger transaction")
        verbose_name_plural = _("ledger transactions")
        indexes = (
            models.Index(fields=("application", "id"), name="ledger_by_application"),
            models.Index(fields=("application", "posted_at"), name="ledger_by_time"),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("application", "reference"), name="one_posting_per_reference", condition=~Q(reference="")
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()} · {self.id}"


class LedgerEntry(models.Model):
    """One side of a transaction: `amount` goes to the account if positive, and leaves it if negative."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    transaction = models.ForeignKey(LedgerTransaction, models.PROTECT, related_name="entries")
    account = models.ForeignKey(LedgerAccount, models.PROTECT, related_name="entries")
    amount = MoneyField(_("amount"), **MONEY)

    class Meta:
        verbose_name = _("ledger entry")
        verbose_name_plural = _("ledger entries")

    def __str__(self) -> str:
        return f"{self.account} {self.amount}"


class AlertKind(models.TextChoices):
    DAILY_QUOTA = "daily_quota", _("Daily quota")
    MONTHLY_QUOTA = "monthly_quota", _("Monthly quota")
    LOW_CREDIT = "low_credit", _("Low credit")


class BillingAlert(models.Model):
    """Something that the members of an application are told once: the notice in the console, and what was delivered."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="billing_alerts", db_index=False)
    kind = models.CharField(_("about"), max_length=16, choices=AlertKind.choices)
    channel_type = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices, blank=True)
    threshold = models.PositiveSmallIntegerField(_("threshold (%)"), default=0)
    """80 or 100, of quotas."""
    facts = models.JSONField(_("figures"), default=dict)
    """Limit, used, when it resets; or the credit that is left."""
    emailed_at = models.DateTimeField(_("e-mailed"), null=True)
    webhook_at = models.DateTimeField(_("webhook delivered"), null=True)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    last_error = models.CharField(_("last error"), max_length=500, blank=True)
    due_at = models.DateTimeField(_("next attempt"), null=True, default=timezone.now)
    """Null: delivered, or given up."""
    created_at = models.DateTimeField(_("created"), default=timezone.now)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("billing alert")
        verbose_name_plural = _("billing alerts")
        indexes = (
            models.Index(fields=("application", "id"), name="alert_by_application"),
            models.Index(fields=("due_at",), name="alert_undelivered", condition=Q(due_at__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()} · {self.created_at:%Y-%m-%d}"
