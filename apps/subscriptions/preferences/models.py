"""What people want: categories, preferences, consent to advertising and its history, and addresses left alone.

A subject is who prefers or consents: the user, or a subscription that has none. Both are UUIDs of one kind, so that one
column (`subject_id`, which PostgreSQL derives) is what is looked up: `coalesce(s.user_id, s.id)`. No database foreign
keys, as for events.
"""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.tenants.channels import ChannelType
from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.ids import new_id
from automata_signal.positions import position_field


def _application(related_name: str = "+") -> Any:
    return models.ForeignKey(
        Application, models.DO_NOTHING, related_name=related_name, db_constraint=False, db_index=False
    )


def _user(*, null: bool = True) -> Any:
    return models.ForeignKey(
        "subscriptions.AppUser", models.DO_NOTHING, null=null, related_name="+", db_constraint=False, db_index=False
    )


def _subscription(*, null: bool = True) -> Any:
    return models.ForeignKey(
        "subscriptions.Subscription",
        models.DO_NOTHING,
        null=null,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )


def _subject() -> Any:
    """The user, or the subscription without one."""
    return models.GeneratedField(
        expression=Coalesce("user_id", "subscription_id"), output_field=models.UUIDField(), db_persist=True
    )


class MessageCategory(models.Model):
    """A kind of message that people choose or refuse, such as news or deliveries. `slug` never changes."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="categories")
    slug = models.CharField(_("slug"), max_length=50)
    name_en = models.CharField(_("name (English)"), max_length=100)
    name_ko = models.CharField(_("name (Korean)"), max_length=100, blank=True)
    description_en = models.CharField(_("description (English)"), max_length=300, blank=True)
    description_ko = models.CharField(_("description (Korean)"), max_length=300, blank=True)
    is_marketing = models.BooleanField(_("advertising"), default=False)
    """Only messages with this purpose may name it, and consent to advertising is needed besides."""
    is_default_opted_in = models.BooleanField(_("on unless refused"), default=True)
    may_opt_out = models.BooleanField(_("may be refused"), default=True)
    """False for what a customer has to get, such as security notices."""
    position = models.PositiveSmallIntegerField(_("order"), default=0)
    is_archived = models.BooleanField(_("archived"), default=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), default=timezone.now, editable=False)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("category")
        verbose_name_plural = _("categories")
        constraints = (models.UniqueConstraint(fields=("application", "slug"), name="one_category_per_slug"),)

    def __str__(self) -> str:
        return self.name_en

    def name_in(self, language: str) -> str:
        return (self.name_ko if language == "ko" else "") or self.name_en

    def description_in(self, language: str) -> str:
        return (self.description_ko if language == "ko" else "") or self.description_en


class ConsentSource(models.TextChoices):
    """Where a choice came from."""

    DEVICE = "device", _("App (SDK)")
    API = "api", _("App server")
    OPERATOR = "operator", _("Operator")
    IMPORT = "import", _("Import")
    LINK = "link", _("Link in a message")
    PAGE = "page", _("Preference page")
    PROVIDER = "provider", _("Provider (STOP, complaint)")
    SYSTEM = "system", _("System")


class Preference(models.Model):
    """What a subject chose for a category on a channel. Without a row the category's default counts."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = _application()
    user = _user()
    subscription = _subscription()
    subject_id = _subject()
    channel = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices)
    category = models.ForeignKey(
        MessageCategory, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    is_opted_in = models.BooleanField(_("opted in"))
    source = models.CharField(_("source"), max_length=16, choices=ConsentSource.choices)
    updated_at = models.DateTimeField(_("changed"), default=timezone.now)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("preference")
        verbose_name_plural = _("preferences")
        constraints = (
            models.UniqueConstraint(
                fields=("application", "subject_id", "channel", "category"), name="one_preference_per_subject"
            ),
        )

    def __str__(self) -> str:
        return f"{self.subject_id} · {self.get_channel_display()}"


class MarketingConsent(models.Model):
    """Whether a subject agreed to advertising on a channel, as it stands now; `ConsentEvent` says how it came about."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = _application()
    user = _user()
    subscription = _subscription()
    subject_id = _subject()
    channel = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices)
    is_given = models.BooleanField(_("given"), default=False)
    given_at = models.DateTimeField(_("given at"), null=True)
    withdrawn_at = models.DateTimeField(_("withdrawn at"), null=True)
    source = models.CharField(_("source"), max_length=16, choices=ConsentSource.choices)
    """Of the last change of either consent."""
    evidence = models.CharField(_("text agreed to"), max_length=200, blank=True)
    """Version or name of the text that was agreed to. Neither address nor device of whoever did it is kept."""
    is_night_given = models.BooleanField(_("at night"), default=False)
    night_given_at = models.DateTimeField(_("given at (night)"), null=True)
    night_withdrawn_at = models.DateTimeField(_("withdrawn at (night)"), null=True)
    night_evidence = models.CharField(_("text agreed to (night)"), max_length=200, blank=True)
    confirmed_at = models.DateTimeField(_("last confirmed"), null=True)
    """When the subject was last told that the consent stands (every two years)."""
    confirm_due_at = models.DateTimeField(_("to be confirmed by"), null=True)
    """Two years after it was given or confirmed; null while it is not given."""
    updated_at = models.DateTimeField(_("changed"), default=timezone.now)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("consent")
        verbose_name_plural = _("consents")
        constraints = (
            models.UniqueConstraint(fields=("application", "subject_id", "channel"), name="one_consent_per_subject"),
        )
        indexes = (
            models.Index(fields=("application", "id"), name="consent_by_application"),
            # What the job of the two-yearly confirmation reads, of all applications.
            models.Index(fields=("confirm_due_at",), name="consent_due", condition=Q(confirm_due_at__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.subject_id} · {self.get_channel_display()}"


class ConsentEventType(models.TextChoices):
    GIVEN = "given", _("Consent given")
    WITHDRAWN = "withdrawn", _("Consent withdrawn")
    NIGHT_GIVEN = "night_given", _("Night consent given")
    NIGHT_WITHDRAWN = "night_withdrawn", _("Night consent withdrawn")
    CONFIRMED = "confirmed", _("Told that the consent stands")
    OPTED_IN = "opted_in", _("Category chosen")
    OPTED_OUT = "opted_out", _("Category refused")
    ADDRESS_CONFIRMED = "address_confirmed", _("Address confirmed")


class ConsentEvent(models.Model):
    """One choice; written, never changed and never deleted (a trigger refuses both). It is the proof of a consent."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = _application()
    user = _user()
    subscription = _subscription()
    """The one it was chosen through, if there was one; of a subject without user, itself."""
    channel = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices)
    category = models.CharField(_("category"), max_length=50, blank=True)
    """Slug, for what is about one."""
    event_type = models.CharField(_("event"), max_length=20, choices=ConsentEventType.choices)
    source = models.CharField(_("source"), max_length=16, choices=ConsentSource.choices)
    evidence = models.CharField(_("text agreed to"), max_length=200, blank=True)
    message_id = models.UUIDField(_("message"), null=True)
    """Whose link was followed."""
    effective_at = models.DateTimeField(_("counts from"))
    """When it was said; earlier than it was written down if the app server says so."""
    occurred_at = models.DateTimeField(_("written"), default=timezone.now)
    position = position_field()

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("consent event")
        verbose_name_plural = _("consent events")
        indexes = (
            models.Index(fields=("application", "id"), name="consent_event_by_app"),
            models.Index(fields=("user", "id"), name="consent_event_of_user", condition=Q(user__isnull=False)),
            models.Index(
                fields=("subscription", "id"), name="consent_event_of_sub", condition=Q(subscription__isnull=False)
            ),
            BrinIndex(fields=("position",), name="consent_event_position", autosummarize=True),
        )

    def __str__(self) -> str:
        return f"{self.get_event_type_display()} · {self.get_channel_display()}"


class NoticeKind(models.TextChoices):
    OPT_IN = "opt_in", _("Please confirm your address")
    RESULT = "result", _("Result of a choice")
    """Within 14 days of consent, refusal or withdrawal (정보통신망법 50 ⑦)."""
    RECONFIRM = "reconfirm", _("Your consent stands")
    """Every two years (정보통신망법 50 ⑧)."""


class NoticeState(models.TextChoices):
    DUE = "due", _("Due")
    SENT = "sent", _("Sent")
    DONE = "done", _("Done elsewhere")
    """The subject was told by a page, the app or an operator."""
    VOID = "void", _("Not needed any more")
    FAILED = "failed", _("Failed")


class ConsentNotice(models.Model):
    """Something a person is to be told about a choice of theirs: the list of what is due and what was done."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    kind = models.CharField(_("kind"), max_length=16, choices=NoticeKind.choices)
    user = _user()
    subscription = _subscription()
    channel = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices)
    about_id = models.UUIDField(editable=False)
    """The event, the consent or the request for confirmation."""
    said_at = models.DateTimeField(_("said on"))
    """When what it is about was said."""
    what = models.CharField(_("about"), max_length=20, blank=True)
    """The event's type."""
    category = models.CharField(_("category"), max_length=50, blank=True)
    due_at = models.DateTimeField(_("by"))
    state = models.CharField(_("state"), max_length=8, choices=NoticeState.choices, default=NoticeState.DUE)
    is_to_be_sent = models.BooleanField(_("by us"), default=True)
    """Whether we send it, or it waits for an operator who does."""
    attempt_at = models.DateTimeField(_("next attempt"), default=timezone.now, editable=False)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0, editable=False)
    message_id = models.UUIDField(_("message"), null=True)
    note = models.CharField(_("note"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("consent notice")
        verbose_name_plural = _("consent notices")
        constraints = (models.UniqueConstraint(fields=("about_id", "kind", "due_at"), name="one_notice_per_reason"),)
        indexes = (
            models.Index(fields=("application", "id"), name="consent_notice_by_app"),
            models.Index(fields=("user",), name="consent_notice_of_user", condition=Q(user__isnull=False)),
            models.Index(
                fields=("attempt_at",),
                name="consent_notice_due",
                condition=Q(state=NoticeState.DUE, is_to_be_sent=True),
            ),
            models.Index(fields=("application", "due_at"), name="consent_notice_open", condition=Q(state="due")),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()} · {self.get_channel_display()}"


class OptIn(models.Model):
    """A subscription that waits for its address to be confirmed (-98), and how often that was asked."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    subscription = _subscription(null=False)
    token_digest = models.BinaryField(max_length=32, editable=False)
    """The address that is asked. A link for another address confirms nothing."""
    requested_at = models.DateTimeField(_("requested"), default=timezone.now)
    expires_at = models.DateTimeField(_("expires"))
    asked_at = models.DateTimeField(_("last asked"), null=True)
    asked_today = models.PositiveSmallIntegerField(_("asked within a day"), default=0)
    counted_from = models.DateTimeField(default=timezone.now, editable=False)
    """When that day began."""
    confirmed_at = models.DateTimeField(_("confirmed"), null=True)
    expired_at = models.DateTimeField(_("expired"), null=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("opt-in")
        verbose_name_plural = _("opt-ins")
        constraints = (models.UniqueConstraint(fields=("subscription",), name="one_opt_in_per_subscription"),)
        indexes = (
            models.Index(fields=("expires_at",), name="opt_in_open", condition=Q(confirmed_at=None, expired_at=None)),
        )

    def __str__(self) -> str:
        return str(self.subscription_id)


class SuppressionReason(models.TextChoices):
    HARD_BOUNCE = "hard_bounce", _("Hard bounce")
    COMPLAINT = "complaint", _("Complaint")
    UNSUBSCRIBED = "unsubscribed", _("Unsubscribed")
    MANUAL = "manual", _("By an operator")
    IMPORT = "import", _("From a file")


class Suppression(models.Model):
    """An address that nothing is sent to, whoever registers it again. Known by its digest; the address is not kept."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = _application()
    type = models.CharField(_("type"), max_length=16)
    """Of the subscription: Email, SMS or KakaoTalk."""
    address_digest = models.BinaryField(max_length=32, editable=False)
    """As `Subscription.token_digest`."""
    masked_address = models.CharField(_("address"), max_length=100, blank=True)
    reason = models.CharField(_("reason"), max_length=16, choices=SuppressionReason.choices)
    source = models.CharField(_("source"), max_length=16, choices=ConsentSource.choices)
    note = models.CharField(_("note"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("since"), default=timezone.now)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("suppressed address")
        verbose_name_plural = _("suppression list")
        constraints = (
            models.UniqueConstraint(
                fields=("application", "type", "address_digest"), name="one_suppression_per_address"
            ),
        )
        indexes = (models.Index(fields=("application", "id"), name="suppression_by_application"),)

    def __str__(self) -> str:
        return f"{self.masked_address} · {self.get_reason_display()}"


class SuppressionEvent(models.Model):
    """An address came on the list, or was taken off it, by whom and why; written, never changed."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = _application()
    type = models.CharField(_("type"), max_length=16)
    address_digest = models.BinaryField(max_length=32, editable=False)
    masked_address = models.CharField(_("address"), max_length=100, blank=True)
    is_removal = models.BooleanField(_("taken off"), default=False)
    reason = models.CharField(_("reason"), max_length=16, choices=SuppressionReason.choices)
    source = models.CharField(_("source"), max_length=16, choices=ConsentSource.choices)
    note = models.CharField(_("note"), max_length=200, blank=True)
    by = models.CharField(_("by"), max_length=200, blank=True)
    occurred_at = models.DateTimeField(_("at"), default=timezone.now)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("suppression event")
        verbose_name_plural = _("suppression events")
        indexes = (
            models.Index(fields=("application", "id"), name="suppression_event_by_app"),
            models.Index(fields=("application", "address_digest"), name="suppression_event_of"),
        )

    def __str__(self) -> str:
        return f"{self.masked_address} · {'off' if self.is_removal else 'on'}"


class ActiveHours(models.Model):
    """At which hours of the day (UTC) a subject opened messages, decayed, for sending when they are usually active."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = _application()
    subject_id = models.UUIDField()
    hours = ArrayField(models.PositiveSmallIntegerField(), size=24)
    best_hour = models.PositiveSmallIntegerField(_("most active at (UTC)"))
    updated_at = models.DateTimeField(_("changed"), default=timezone.now)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("active hours")
        verbose_name_plural = _("active hours")
        constraints = (
            models.UniqueConstraint(fields=("application", "subject_id"), name="one_active_hours_per_subject"),
        )

    def __str__(self) -> str:
        return f"{self.subject_id} · {self.best_hour}h"


class SendTiming(models.Model):
    """When the messages of a campaign are for each of its recipients: at a time of their own clock, or when they are
    usually active. Kept here since it is about people's time; campaigns lie far above and are named by id."""

    campaign_id = models.UUIDField(primary_key=True)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    local_time = models.TimeField(_("local time"), null=True)
    at_active_hours = models.BooleanField(_("when usually active"), default=False)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("send timing")
        verbose_name_plural = _("send timings")
        indexes = (models.Index(fields=("application", "campaign_id"), name="send_timing_by_app"),)

    def __str__(self) -> str:
        return str(self.local_time or _("when usually active"))
