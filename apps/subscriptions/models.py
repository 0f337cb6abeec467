"""Who can be reached: users of applications, their subscriptions, and what changed about them."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.db import models
from django.db.models import F, Func, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.subscriptions.data_requests.models import DataRequest as DataRequest
from apps.subscriptions.imports.models import Import as Import
from apps.subscriptions.preferences.models import ActiveHours as ActiveHours
from apps.subscriptions.preferences.models import ConsentEvent as ConsentEvent
from apps.subscriptions.preferences.models import ConsentNotice as ConsentNotice
from apps.subscriptions.preferences.models import MarketingConsent as MarketingConsent
from apps.subscriptions.preferences.models import MessageCategory as MessageCategory
from apps.subscriptions.preferences.models import OptIn as OptIn
from apps.subscriptions.preferences.models import Preference as Preference
from apps.subscriptions.preferences.models import SendTiming as SendTiming
from apps.subscriptions.preferences.models import Suppression as Suppression
from apps.subscriptions.preferences.models import SuppressionEvent as SuppressionEvent
from apps.subscriptions.status import SubscriptionStatus, group_of
from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.encryption import EncryptedTextField
from automata_signal.ids import new_id
from automata_signal.positions import position_field


class LiveManager(models.Manager.from_queryset(ScopedQuerySet)):  # type: ignore[misc]
    """Hides archived rows (the specification's ash_archival)."""

    def get_queryset(self) -> ScopedQuerySet[Any]:
        queryset: ScopedQuerySet[Any] = super().get_queryset().filter(is_archived=False)
        return queryset


class AppUser(models.Model):
    """A user of an application (specification 3.3, USER), known by the application's own `external_id`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="users")
    external_id = models.CharField(_("external id"), max_length=255)
    properties = models.JSONField(_("properties"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), default=timezone.now, editable=False)
    last_active_at = models.DateTimeField(_("last active"), null=True, blank=True)
    is_test = models.BooleanField(_("in the test group"), default=False, db_default=False)
    """Whether test sends may go to this user: somebody of the application's own people."""
    is_archived = models.BooleanField(_("archived"), default=False)
    archived_at = models.DateTimeField(_("archived at"), null=True, blank=True)

    objects = LiveManager()
    with_archived = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        base_manager_name = "with_archived"
        constraints = (models.UniqueConstraint(fields=("application", "external_id"), name="one_user_per_external_id"),)
        indexes = (
            models.Index(fields=("application", "id"), name="user_by_application"),
            models.Index(fields=("application", "id"), name="user_test_group", condition=Q(is_test=True)),
            # For who knows how an external id begins: `LIKE 'abc%'` needs an index that compares by characters.
            models.Index(
                fields=("application", "external_id"),
                name="user_by_prefix",
                opclasses=("uuid_ops", "varchar_pattern_ops"),
            ),
        )

    def __str__(self) -> str:
        return self.external_id


class SubscriptionType(models.TextChoices):
    IOS_PUSH = "iOSPush", _("iOS push")
    ANDROID_PUSH = "AndroidPush", _("Android push")
    EMAIL = "Email", _("E-mail")
    SMS = "SMS", _("SMS")
    KAKAO_TALK = "KakaoTalk", _("Kakao Alimtalk")
    IN_APP_MESSAGE = "InAppMessage", _("In-app message")


PUSH_TYPES = frozenset({SubscriptionType.IOS_PUSH, SubscriptionType.ANDROID_PUSH})
MESSAGING_TYPES = frozenset({SubscriptionType.EMAIL, SubscriptionType.SMS, SubscriptionType.KAKAO_TALK})


class TestType(models.IntegerChoices):
    PRODUCTION = 0, _("Production")
    DEVELOPMENT = 1, _("Development")
    AD_HOC = 2, _("Ad hoc")


def version_key(column: str) -> models.GeneratedField:
    """A column that PostgreSQL derives from a version text: `1.10.2-beta` → `{1,10,2}`; arrays compare as versions."""
    return models.GeneratedField(
        expression=Func(F(column), function="version_key"),
        output_field=ArrayField(models.BigIntegerField(), null=True),
        db_persist=True,
    )


class Subscription(models.Model):
    """One address on one channel (specification 3.3, SUBSCRIPTION).

    `token_digest` is what makes the address unique and findable; the token itself is ciphertext.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="subscriptions", db_index=False)
    user = models.ForeignKey(AppUser, models.SET_NULL, null=True, blank=True, related_name="subscriptions")
    type = models.CharField(_("type"), max_length=16, choices=SubscriptionType.choices)
    token = EncryptedTextField(_("token"))
    token_digest = models.BinaryField(max_length=32, editable=False)
    token_registered_at = models.DateTimeField(_("token registered"), default=timezone.now, editable=False)
    """When the device last gave this token: a provider's older word about it does not count (APNs 410)."""
    handle_version = models.PositiveSmallIntegerField(default=1, editable=False)
    """Counts up to make the secret handle of the SDK invalid."""

    device_model = models.CharField(_("device model"), max_length=100, blank=True)
    device_os = models.CharField(_("OS version"), max_length=50, blank=True)
    device_language = models.CharField(_("language"), max_length=35, blank=True)
    app_version = models.CharField(_("app version"), max_length=50, blank=True)
    sdk_version = models.CharField(_("SDK version"), max_length=50, blank=True)
    country_code = models.CharField(_("country"), max_length=2, blank=True)
    test_type = models.PositiveSmallIntegerField(_("environment"), choices=TestType.choices, default=0)
    tags = models.JSONField(_("tags"), default=dict, blank=True)
    app_version_key = version_key("app_version")
    sdk_version_key = version_key("sdk_version")
    device_os_key = version_key("device_os")

    subscription_status = models.SmallIntegerField(_("status"), choices=SubscriptionStatus.choices, default=0)
    status_source = models.CharField(_("status set by"), max_length=16, default="device")
    subscribed_at = models.DateTimeField(_("subscribed"), null=True, blank=True)
    unsubscribed_at = models.DateTimeField(_("unsubscribed"), null=True, blank=True)
    last_active_at = models.DateTimeField(_("last active"), null=True, blank=True)
    soft_failures = models.PositiveSmallIntegerField(_("failures in a row"), default=0, db_default=0, editable=False)
    """Soft bounces and the like since something last arrived; enough of them end it (`subscriptions_strike`)."""
    soft_failed_at = models.DateTimeField(_("last such failure"), null=True, editable=False)
    total_messages_received = models.PositiveIntegerField(_("received"), default=0)
    total_messages_converted = models.PositiveIntegerField(_("converted"), default=0)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), default=timezone.now, editable=False)
    is_archived = models.BooleanField(_("archived"), default=False)
    archived_at = models.DateTimeField(_("archived at"), null=True, blank=True)

    objects = LiveManager()
    with_archived = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("subscription")
        verbose_name_plural = _("subscriptions")
        base_manager_name = "with_archived"
        constraints = (
            models.UniqueConstraint(fields=("application", "type", "token_digest"), name="one_subscription_per_token"),
        )
        indexes = (
            models.Index(fields=("application", "id"), name="subscription_by_application"),
            # The audience of a campaign, in slices by key; counted from the index alone where the criteria name nothing
            # but what it carries. Never `last_active_at`: each receipt moves it, and such updates would not be HOT.
            models.Index(
                fields=("application", "type", "id"),
                include=("country_code", "app_version_key"),
                name="subscription_reachable",
                condition=Q(subscription_status__gt=0, is_archived=False),
            ),
            models.Index(  # a few countries and something else that only the rows know
                fields=("application", "country_code", "id"),
                name="subscription_country",
                condition=Q(subscription_status__gt=0, is_archived=False),
            ),
            GinIndex(fields=("tags",), name="subscription_tags", opclasses=("jsonb_path_ops",)),
        )

    def __str__(self) -> str:
        return f"{self.get_type_display()} · {self.id}"

    @property
    def is_push_channel(self) -> bool:
        return self.type in PUSH_TYPES

    @property
    def is_messaging_channel(self) -> bool:
        return self.type in MESSAGING_TYPES

    @property
    def is_in_app_channel(self) -> bool:
        return self.type == SubscriptionType.IN_APP_MESSAGE

    @property
    def is_subscribed(self) -> bool:
        return self.subscription_status > 0

    @property
    def is_unsubscribed(self) -> bool:
        return self.subscription_status in (SubscriptionStatus.UNSUBSCRIBED, SubscriptionStatus.DISABLED_BY_API)

    @property
    def has_error(self) -> bool:
        """As the specification calculates it: below -2, and neither -31 nor -99."""
        return self.subscription_status < -2 and self.subscription_status not in (-31, -99)

    @property
    def error_code_range(self) -> str:
        """`push_error`, `email_error`, `sms_error`, `kakao_error`, `in_app_error` or `other`."""
        return group_of(self.subscription_status).error_code_range

    @property
    def masked_token(self) -> str:
        """Enough of the token to tell two apart, too little to use."""
        token: Any = self.token
        return f"{token[:4]}…{token[-4:]}" if len(token) > 16 else "…"


class SubscriptionEventType(models.TextChoices):
    REGISTERED = "registered", _("Registered")
    SUBSCRIBED = "subscribed", _("Subscribed")
    UNSUBSCRIBED = "unsubscribed", _("Unsubscribed")
    STATUS_CHANGED = "status_changed", _("Status changed")
    TOKEN_UPDATED = "token_updated", _("Token updated")
    LINKED = "linked", _("Linked to a user")
    UNLINKED = "unlinked", _("Unlinked from a user")
    ARCHIVED = "archived", _("Archived")
    RESTORED = "restored", _("Restored")


class SubscriptionEvent(models.Model):
    """One change of a subscription (specification 3.3, SUBSCRIPTION_EVENT); written, never changed.

    No database foreign keys: a slice of a campaign may end a thousand subscriptions in one statement.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(
        Application, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    subscription = models.ForeignKey(
        Subscription, models.DO_NOTHING, related_name="events", db_constraint=False, db_index=False
    )
    user = models.ForeignKey(
        AppUser, models.DO_NOTHING, null=True, related_name="+", db_constraint=False, db_index=False
    )
    event_type = models.CharField(_("event"), max_length=16, choices=SubscriptionEventType.choices)
    channel = models.CharField(_("channel"), max_length=16)
    source = models.CharField(_("source"), max_length=16)
    """device, provider, api, operator, import or system."""
    reason = models.CharField(_("reason"), max_length=200, blank=True)
    old_status = models.SmallIntegerField(_("old status"), null=True)
    new_status = models.SmallIntegerField(_("new status"), null=True)
    occurred_at = models.DateTimeField(_("occurred"), default=timezone.now)
    position = position_field()

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("subscription event")
        verbose_name_plural = _("subscription events")
        indexes = (
            models.Index(fields=("subscription", "id"), name="subscription_event_of"),
            models.Index(fields=("application", "id"), name="subscription_event_by_app"),
            models.Index(fields=("user",), name="subscription_event_of_user", condition=Q(user__isnull=False)),
            BrinIndex(fields=("position",), name="subscription_event_position", autosummarize=True),
        )

    def __str__(self) -> str:
        return f"{self.get_event_type_display()} · {self.subscription_id}"
