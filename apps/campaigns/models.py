"""Planned sends: segments, and campaigns with their schedule and progress."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_fsm import FSMField, transition
from simple_history.models import HistoricalRecords

from apps.campaigns.approvals.models import CampaignApproval as CampaignApproval
from apps.campaigns.experiments.models import Experiment as Experiment
from apps.campaigns.experiments.models import Variant as Variant
from apps.campaigns.experiments.models import VariantTally as VariantTally
from apps.messaging.models import Dispatch, MessageTemplate, Priority, Purpose
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.ids import new_id


class Segment(models.Model):
    """A named audience: criteria that campaigns and counts can refer to."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="segments")
    name = models.CharField(_("name"), max_length=200)
    description = models.CharField(_("description"), max_length=500, blank=True)
    criteria = models.JSONField(_("criteria"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), default=timezone.now, editable=False)

    objects = ScopedQuerySet.as_manager()
    history = HistoricalRecords()

    class Meta:
        verbose_name = _("segment")
        verbose_name_plural = _("segments")
        constraints = (models.UniqueConstraint(fields=("application", "name"), name="one_segment_per_name"),)

    def __str__(self) -> str:
        return self.name


class CampaignStatus(models.TextChoices):
    DRAFT = "draft", _("Draft")
    SCHEDULED = "scheduled", _("Scheduled")
    RUNNING = "running", _("Running")
    PAUSED = "paused", _("Paused")
    COMPLETED = "completed", _("Completed")
    CANCELED = "canceled", _("Canceled")
    FAILED = "failed", _("Failed")


class CampaignType(models.TextChoices):
    ONE_TIME = "one_time", _("Once, at launch")
    SCHEDULED = "scheduled", _("Once, at a time")


class OverQuota(models.TextChoices):
    """What a campaign does that does not fit the quota or the credit."""

    REFUSE = "refuse", _("Do not launch it")
    PARTIAL = "partial", _("Send as far as it goes")


class MessageCampaign(models.Model):
    """One content to an audience (specification 3.3, MESSAGE_CAMPAIGN).

    The counts are kept by the transactions that move its messages; a person's edit never writes them.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="campaigns")
    template = models.ForeignKey(MessageTemplate, models.PROTECT, null=True, blank=True, related_name="campaigns")
    name = models.CharField(_("name"), max_length=200)
    title = models.TextField(_("title"), blank=True)
    body = models.TextField(_("body"), blank=True)
    data = models.JSONField(_("data"), default=dict, blank=True)
    options = models.JSONField(_("options"), default=dict, blank=True)
    variables = models.JSONField(_("variables"), default=dict, blank=True)
    """Values for the template that are the same for everybody; a user's own property comes first."""
    campaign_type = models.CharField(_("type"), max_length=16, choices=CampaignType.choices, default="one_time")
    channel_type = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices, default="push")
    priority = models.CharField(_("priority"), max_length=8, choices=Priority.choices, default=Priority.LOW)
    ttl_s = models.PositiveIntegerField(_("time to live (s)"), null=True, blank=True)
    messages_per_minute = models.PositiveIntegerField(_("messages per minute"), null=True, blank=True)
    """The throttle; null: as fast as it goes."""
    chain = models.JSONField(_("chain"), default=dict, blank=True, db_default=models.Value({}, models.JSONField()))
    """What follows for users whom it does not reach: `wait_s`, `on`, `until` and `steps`, as `chain_of` reads them."""
    purpose = models.CharField(
        _("purpose"), max_length=16, choices=Purpose.choices, default=Purpose.TRANSACTIONAL, db_default="transactional"
    )
    category = models.CharField(_("category"), max_length=50, blank=True, default="", db_default="")
    """Slug of what recipients may have opted out of."""
    when_over_quota = models.CharField(
        _("beyond the quota"), max_length=8, choices=OverQuota.choices, default=OverQuota.REFUSE
    )
    """Partial: who is beyond it gets a message that failed of `quota_exceeded`."""
    targeting_criteria = models.JSONField(_("audience"), default=dict, blank=True)
    is_audience_chosen = models.BooleanField(default=True, db_default=True, editable=False)
    """Whether somebody has said who gets it: a draft begins without, and everybody is chosen on purpose."""
    scheduled_at = models.DateTimeField(_("scheduled for"), null=True, blank=True)
    scheduled_time_zone = models.CharField(_("in time zone"), max_length=64, blank=True)
    status = FSMField(_("status"), choices=CampaignStatus.choices, default=CampaignStatus.DRAFT, protected=True)
    failure_reason = models.CharField(_("failed because"), max_length=300, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), default=timezone.now, editable=False)
    created_by = models.CharField(_("created by"), max_length=200, blank=True, editable=False)
    sent_at = models.DateTimeField(_("launched"), null=True, blank=True, editable=False)
    completed_at = models.DateTimeField(_("finished"), null=True, blank=True, editable=False)

    dispatch = models.OneToOneField(Dispatch, models.SET_NULL, null=True, editable=False, related_name="+")
    fanout_after_id = models.UUIDField(null=True, editable=False)
    """Checkpoint: subscriptions up to this one are in slices."""
    fanout_done_at = models.DateTimeField(null=True, editable=False)
    has_variants = models.BooleanField(default=False, db_default=False, editable=False)
    """It tests several contents (`apps.campaigns.experiments`)."""
    awaits_winner = models.BooleanField(default=False, db_default=False, editable=False)
    """The test's part of the audience is cut, and the rest waits until somebody, or the rule, has chosen."""
    reserved_left = models.PositiveBigIntegerField(default=0, editable=False)
    """Messages that were reserved at launch and are not in slices yet."""
    is_over_quota = models.BooleanField(default=False, editable=False)
    """The quota is used up: who is cut from here on is not sent to."""

    total_recipients = models.PositiveIntegerField(_("recipients"), default=0, editable=False)
    successful_count = models.PositiveIntegerField(_("successful"), default=0, editable=False)
    failed_count = models.PositiveIntegerField(_("failed"), default=0, editable=False)
    received_count = models.PositiveIntegerField(_("received"), default=0, editable=False)
    converted_count = models.PositiveIntegerField(_("converted"), default=0, editable=False)

    objects = ScopedQuerySet.as_manager()
    history = HistoricalRecords(
        excluded_fields=[
            "total_recipients",
            "successful_count",
            "failed_count",
            "received_count",
            "converted_count",
            "fanout_after_id",
            "fanout_done_at",
            "reserved_left",
            "is_over_quota",
            "has_variants",
            "awaits_winner",
            "dispatch",
        ]
    )

    class Meta:
        verbose_name = _("campaign")
        verbose_name_plural = _("campaigns")
        indexes = (
            models.Index(fields=("application", "id"), name="campaign_by_application"),
            models.Index(
                fields=("scheduled_at",), name="campaign_scheduled", condition=models.Q(status=CampaignStatus.SCHEDULED)
            ),
            models.Index(fields=("id",), name="campaign_running", condition=models.Q(status=CampaignStatus.RUNNING)),
        )

    def __str__(self) -> str:
        return self.name

    @transition(field=status, source=(CampaignStatus.DRAFT, CampaignStatus.SCHEDULED), target=CampaignStatus.SCHEDULED)
    def schedule(self) -> None:
        """Also to move a campaign that is scheduled to another time."""

    @transition(field=status, source=CampaignStatus.SCHEDULED, target=CampaignStatus.DRAFT)
    def unschedule(self) -> None: ...

    @transition(field=status, source=(CampaignStatus.DRAFT, CampaignStatus.SCHEDULED), target=CampaignStatus.RUNNING)
    def launch(self) -> None:
        self.sent_at = timezone.now()

    @transition(field=status, source=CampaignStatus.RUNNING, target=CampaignStatus.PAUSED)
    def pause(self) -> None: ...

    @transition(field=status, source=CampaignStatus.PAUSED, target=CampaignStatus.RUNNING)
    def resume(self) -> None: ...

    @transition(field=status, source=CampaignStatus.RUNNING, target=CampaignStatus.COMPLETED)
    def complete(self) -> None:
        self.completed_at = timezone.now()

    @transition(
        field=status,
        source=(CampaignStatus.DRAFT, CampaignStatus.SCHEDULED, CampaignStatus.RUNNING, CampaignStatus.PAUSED),
        target=CampaignStatus.CANCELED,
    )
    def cancel(self) -> None:
        self.completed_at = timezone.now()

    @transition(
        field=status,
        source=(CampaignStatus.SCHEDULED, CampaignStatus.RUNNING, CampaignStatus.PAUSED),
        target=CampaignStatus.FAILED,
    )
    def fail(self) -> None:
        self.completed_at = timezone.now()


class CampaignFailure(models.Model):
    """How many messages of a campaign failed for one reason; kept by the recorder, one upsert for each slice.

    A column of its own on the campaign would grow without bound, and counting messages would read them all. No
    database foreign key: a slice of results is never refused because of its counters.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_constraint=False, db_index=False)
    campaign = models.ForeignKey(
        MessageCampaign, models.CASCADE, related_name="failures", db_constraint=False, db_index=False
    )
    reason = models.CharField(_("reason"), max_length=100)
    count = models.PositiveIntegerField(_("messages"), default=0)

    class Meta:
        verbose_name = _("failure reason")
        verbose_name_plural = _("failure reasons")
        constraints = (
            models.UniqueConstraint(fields=("application", "campaign", "reason"), name="one_row_per_failure_reason"),
        )

    def __str__(self) -> str:
        return f"{self.reason}: {self.count}"
