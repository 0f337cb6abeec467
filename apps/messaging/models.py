"""What is sent: templates, dispatches and their batches, messages and their events.

Dispatch        what to send, to whom and how: one API request, or one launch of a campaign
  └ DispatchBatch   a slice of its recipients: the unit of claim, lease, retry and sweep
      └ Message         one recipient; the ids of a batch are a range of their own (`automata_signal.ids`)
          └ MessageEvent    one transition of it
"""

from __future__ import annotations

from datetime import datetime

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_fsm import FSMField, transition
from simple_history.models import HistoricalRecords

from apps.messaging.chains.models import FollowUp as FollowUp
from apps.messaging.inbox.models import InboxItem as InboxItem
from apps.messaging.kakao.models import KakaoChannel as KakaoChannel
from apps.messaging.kakao.models import KakaoTemplate as KakaoTemplate
from apps.messaging.media.models import MediaFile as MediaFile
from apps.messaging.media.models import MediaVariant as MediaVariant
from apps.messaging.webhooks.models import WebhookDelivery as WebhookDelivery
from apps.messaging.webhooks.models import WebhookEndpoint as WebhookEndpoint
from apps.messaging.webhooks.models import WebhookLane as WebhookLane
from apps.messaging.webhooks.models import WebhookReader as WebhookReader
from apps.subscriptions.models import AppUser, Subscription, SubscriptionType
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.ids import new_id
from automata_signal.positions import position_field


class MessageTemplate(models.Model):
    """A reusable content with variables (specification 3.3, MESSAGE_TEMPLATE); its present version in full.

    Each edit is kept as a `MessageTemplateVersion`: a message remembers the one it was made from.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="templates")
    name = models.CharField(_("name"), max_length=200)
    description = models.CharField(_("description"), max_length=500, blank=True)
    title_template = models.TextField(_("title"), blank=True)
    body_template = models.TextField(_("body"), blank=True)
    data_template = models.JSONField(_("data"), default=dict, blank=True)
    options = models.JSONField(_("options"), default=dict, blank=True)
    """The channel's own fields, as in `Content.options`; not rendered."""
    variants = models.JSONField(
        _("variants"), default=list, blank=True, db_default=models.Value([], models.JSONField())
    )
    """What it says on one channel or in one language instead (`apps.messaging.variants`)."""
    is_active = models.BooleanField(_("active"), default=True)
    version = models.PositiveIntegerField(_("version"), default=1, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), default=timezone.now, editable=False)

    objects = ScopedQuerySet.as_manager()
    history = HistoricalRecords()

    class Meta:
        verbose_name = _("template")
        verbose_name_plural = _("templates")
        constraints = (models.UniqueConstraint(fields=("application", "name"), name="one_template_per_name"),)

    def __str__(self) -> str:
        return f"{self.name} (v{self.version})"


class MessageTemplateVersion(models.Model):
    """One version of a template; written, never changed."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    template = models.ForeignKey(MessageTemplate, models.CASCADE, related_name="versions")
    version = models.PositiveIntegerField(_("version"))
    title_template = models.TextField(_("title"), blank=True)
    body_template = models.TextField(_("body"), blank=True)
    data_template = models.JSONField(_("data"), default=dict)
    options = models.JSONField(_("options"), default=dict)
    variants = models.JSONField(_("variants"), default=list, db_default=models.Value([], models.JSONField()))
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    created_by = models.CharField(_("by"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("template version")
        verbose_name_plural = _("template versions")
        constraints = (models.UniqueConstraint(fields=("template", "version"), name="one_row_per_template_version"),)
        ordering = ("-version",)

    def __str__(self) -> str:
        return f"v{self.version}"


class Priority(models.TextChoices):
    """Which queue: HIGH at once, MEDIUM within five minutes, LOW in bulk (companion design, section 5.3)."""

    HIGH = "high", _("High")
    MEDIUM = "medium", _("Medium")
    LOW = "low", _("Low")


class Purpose(models.TextChoices):
    """Why it is sent: advertising needs consent, and keeps to the rules of `apps.messaging.courtesy`."""

    TRANSACTIONAL = "transactional", _("Transactional")
    MARKETING = "marketing", _("Marketing")


class FollowOn(models.TextChoices):
    """When the next step of a chain follows."""

    NO_RECEIPT = "no_receipt", _("Without a receipt in time, or a failure")
    FAILURE = "failure", _("A failure")


class DispatchState(models.TextChoices):
    ACTIVE = "active", _("Active")
    PAUSED = "paused", _("Paused")
    CANCELED = "canceled", _("Canceled")


class Dispatch(models.Model):
    """One order to send: the content, how, and (for a campaign) the audience. Pausing it touches this row only.

    `title`, `body` and `data` are the content itself, or its template when `is_personalised`; message rows hold
    their own only in the second case.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    campaign_id = models.UUIDField(_("campaign"), null=True, blank=True)
    template_version = models.ForeignKey(MessageTemplateVersion, models.SET_NULL, null=True, related_name="+")
    channel_type = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices)
    priority = models.CharField(_("priority"), max_length=8, choices=Priority.choices)
    state = models.CharField(_("state"), max_length=8, choices=DispatchState.choices, default=DispatchState.ACTIVE)
    title = models.TextField(_("title"), blank=True)
    body = models.TextField(_("body"), blank=True)
    data = models.JSONField(_("data"), default=dict)
    options = models.JSONField(_("options"), default=dict)
    variables = models.JSONField(_("variables"), default=dict)
    languages = models.JSONField(_("languages"), default=dict, db_default=models.Value({}, models.JSONField()))
    """Language → title, body and data that its speakers get instead; messages hold the words they got."""
    purpose = models.CharField(
        _("purpose"), max_length=16, choices=Purpose.choices, default=Purpose.TRANSACTIONAL, db_default="transactional"
    )
    category = models.CharField(_("category"), max_length=50, blank=True, default="", db_default="")
    """Slug of what the recipient may have opted out of; empty: nothing in particular."""
    is_personalised = models.BooleanField(_("personalised"), default=False)
    audience = models.JSONField(_("audience"), null=True)
    """Targeting criteria with segments resolved; null when the recipients were named."""
    variant = models.CharField(_("variant"), max_length=1, blank=True, default="", db_default="", editable=False)
    """Letter of the variant that its content is, in a campaign that tests several; empty: of none."""
    split_from = models.PositiveIntegerField(null=True, editable=False)
    """The buckets of the audience that it is for, from here up to `split_to` (`messaging.splitting`); null: all."""
    split_to = models.PositiveIntegerField(null=True, editable=False)
    tally_id = models.UUIDField(null=True, editable=False)
    """The row in which an upper app counts what becomes of its messages, beside the campaign's own counters."""
    reserved_at = models.DateTimeField(null=True, editable=False)
    """When its messages were reserved, if that was before it was made."""
    reaches_pending = models.BooleanField(default=False, db_default=False, editable=False)
    """Whether it also goes to who has not confirmed yet (-98): the request for confirmation itself."""
    chain_id = models.UUIDField(_("chain"), null=True, editable=False)
    """The first step of the chain that it is a step of (`apps.messaging.chains`); null: of none."""
    chain_step = models.PositiveSmallIntegerField(_("step"), default=0, db_default=0, editable=False)
    wait_s = models.PositiveIntegerField(_("waits for a receipt (s)"), null=True, editable=False)
    """How long it waits for a receipt before the next step; null: it is the last."""
    follow_on = models.CharField(
        _("the next step follows"),
        max_length=16,
        choices=FollowOn.choices,
        blank=True,
        default="",
        db_default="",
        editable=False,
    )
    follow_until = models.CharField(
        _("until it is"), max_length=16, blank=True, default="", db_default="", editable=False
    )
    """`received` or `converted`: what ends the chain."""
    ttl_s = models.PositiveIntegerField(_("time to live (s)"))
    messages_per_minute = models.PositiveIntegerField(_("messages per minute"), null=True)
    """The throttle, for all workers together; null: as fast as it goes."""
    created_at = models.DateTimeField(_("created"), default=timezone.now)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("dispatch")
        verbose_name_plural = _("dispatches")
        indexes = (
            models.Index(fields=("application", "id"), name="dispatch_by_application"),
            models.Index(fields=("campaign_id",), name="dispatch_by_campaign"),
            models.Index(fields=("chain_id",), name="dispatch_by_chain", condition=models.Q(chain_id__isnull=False)),
        )

    def __str__(self) -> str:
        return str(self.id)


class BatchState(models.TextChoices):
    WAITING = "waiting", _("Waiting")
    """Until `due_at`: for its first time, or for the retries of its messages."""
    CLAIMED = "claimed", _("Being sent")
    DONE = "done", _("Done")


class DispatchBatch(models.Model):
    """A slice of a dispatch's recipients.

    A campaign's batch is a range of subscription ids; its messages are made when it is first claimed. An API
    request's batch has its messages from the start. Either way the messages are the range from `first_id`.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    dispatch = models.ForeignKey(Dispatch, models.CASCADE, related_name="batches", db_index=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    subscription_type = models.CharField(_("type"), max_length=16, choices=SubscriptionType.choices)
    priority = models.CharField(_("priority"), max_length=8, choices=Priority.choices)
    state = models.CharField(_("state"), max_length=8, choices=BatchState.choices, default=BatchState.WAITING)
    due_at = models.DateTimeField(_("due"), default=timezone.now)
    expires_at = models.DateTimeField(_("expires"))
    """When the time to live of its messages ends."""
    queued_at = models.DateTimeField(_("queued"), null=True)
    lease_id = models.UUIDField(null=True)
    lease_until = models.DateTimeField(_("leased until"), null=True)
    claims = models.PositiveSmallIntegerField(_("claims"), default=0)
    first_subscription_id = models.UUIDField(null=True)
    last_subscription_id = models.UUIDField(null=True)
    """The bounds of a campaign's slice, both inside of it; null when the recipients were named."""
    first_id = models.UUIDField(_("first message"), null=True)
    """Base of the range of message ids (`IdRange`); null until the messages are made."""
    recipient_count = models.PositiveIntegerField(_("recipients"), default=0)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True)
    receipts_closed = models.BooleanField(default=False)
    """Whether what had no receipt in time was failed (application setting `receipt_timeout_hours`)."""
    has_failed = models.BooleanField(default=False, db_default=False)
    """Whether messages of it had failed when it was last given back: where dead letters are looked for."""
    follow_up_at = models.DateTimeField(_("followed up"), null=True, editable=False)
    """When it is looked at for whom the next step of its chain is due; null: for nobody."""
    is_over_quota = models.BooleanField(_("over the quota"), default=False, db_default=False)
    """The quota had no room for it: nothing of it is reserved, and its messages fail."""

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("batch")
        verbose_name_plural = _("batches")
        indexes = (
            models.Index(fields=("dispatch", "id"), name="batch_of_dispatch"),
            models.Index(fields=("application", "first_id"), name="batch_by_message_range"),
            models.Index(fields=("due_at",), name="batch_waiting", condition=models.Q(state="waiting")),
            models.Index(
                fields=("application", "subscription_type", "priority", "due_at"),
                name="batch_next",
                condition=models.Q(state="waiting"),
            ),
            models.Index(fields=("lease_until",), name="batch_claimed", condition=models.Q(state="claimed")),
            models.Index(
                fields=("application", "first_id"), name="batch_with_failed", condition=models.Q(has_failed=True)
            ),
            models.Index(
                fields=("follow_up_at",), name="batch_follow_up", condition=models.Q(follow_up_at__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return str(self.id)

    @property
    def reserved_at(self) -> datetime | None:
        """When its messages were reserved: with its dispatch, of a chain's further step when that was taken. None for
        those that were not, since the quota had no room for them."""
        if self.is_over_quota:
            return None
        return self.created_at if self.dispatch.chain_step else self.dispatch.reserved_at or self.dispatch.created_at


class MessageStatus(models.TextChoices):
    PENDING = "pending", _("Pending")
    SUCCESSFUL = "successful", _("Successful")
    """The provider took it; never means delivered."""
    ERRORED = "errored", _("Errored")
    """Temporary: it has a due time (`retry_at`)."""
    FAILED = "failed", _("Failed")
    """Final: it has an `error_reason`."""
    RECEIVED = "received", _("Received")
    CONVERTED = "converted", _("Converted")


class Message(models.Model):
    """One message to one subscription (specification 3.3, MESSAGE).

    Partitioned by ranges of `id`; no database foreign keys and no index that names the state, so that updates stay
    HOT (design, section 7). `title`, `body` and `data` are null when they are the dispatch's own.
    `version_history` of the specification is `MessageEvent`.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    application = models.ForeignKey(
        Application, models.DO_NOTHING, related_name="messages", db_constraint=False, db_index=False
    )
    dispatch = models.ForeignKey(Dispatch, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False)
    campaign_id = models.UUIDField(_("campaign"), null=True)
    subscription = models.ForeignKey(
        Subscription, models.DO_NOTHING, related_name="messages", db_constraint=False, db_index=False
    )
    user = models.ForeignKey(
        AppUser, models.DO_NOTHING, null=True, related_name="messages", db_constraint=False, db_index=False
    )
    channel_type = models.CharField(_("channel"), max_length=16, choices=ChannelType.choices)
    status = FSMField(_("status"), choices=MessageStatus.choices, default=MessageStatus.PENDING, protected=True)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    title = models.TextField(_("title"), null=True)
    body = models.TextField(_("body"), null=True)
    data = models.JSONField(_("data"), null=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    sent_at = models.DateTimeField(_("sent"), null=True)
    received_at = models.DateTimeField(_("received"), null=True)
    converted_at = models.DateTimeField(_("converted"), null=True)
    failed_at = models.DateTimeField(_("failed"), null=True)
    retry_at = models.DateTimeField(_("next attempt"), null=True)
    """Of a pending one: it was handed over, and is not answered (`claims.note_handed_over`)."""
    error_reason = models.CharField(_("reason"), max_length=100, null=True)
    error_details = models.JSONField(_("error details"), null=True)
    requeued_from = models.UUIDField(_("requeued from"), null=True)
    """The failed message that this one is sent in place of."""
    requeued_as = models.UUIDField(_("requeued as"), null=True)
    """The message that is sent in place of this failed one, which stays failed: a message is requeued once."""

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        indexes = (
            models.Index(fields=("application", "id"), name="message_by_application"),
            models.Index(fields=("subscription", "id"), name="message_by_subscription"),
        )

    def __str__(self) -> str:
        return str(self.id)

    # The transition table of the specification (4, "메시지 상태 추적 시스템"). This is its only definition:
    # `apps.messaging.lifecycle` reads it for the set-based form.

    @transition(field=status, source=(MessageStatus.PENDING, MessageStatus.ERRORED), target=MessageStatus.SUCCESSFUL)
    def send(self) -> None:
        self.sent_at = timezone.now()

    @transition(field=status, source=MessageStatus.PENDING, target=MessageStatus.ERRORED)
    def error(self) -> None:
        """The provider is to be asked again at `retry_at`."""

    @transition(field=status, source=MessageStatus.ERRORED, target=MessageStatus.PENDING)
    def retry(self) -> None:
        self.retry_at = None

    @transition(
        field=status,
        source=(MessageStatus.PENDING, MessageStatus.ERRORED, MessageStatus.SUCCESSFUL),
        target=MessageStatus.FAILED,
    )
    def fail(self) -> None:
        self.failed_at = timezone.now()

    @transition(field=status, source=MessageStatus.SUCCESSFUL, target=MessageStatus.RECEIVED)
    def receive(self) -> None:
        self.received_at = timezone.now()

    @transition(field=status, source=MessageStatus.RECEIVED, target=MessageStatus.CONVERTED)
    def convert(self) -> None:
        self.converted_at = timezone.now()


class MessageEvent(models.Model):
    """One transition of a message (specification 3.3, MESSAGE_EVENT), written in the transaction that made it.

    The id is the message's with the number of the event in its last byte, so the events of a message are a range of
    the primary key, and no event can be written twice. Partitioned like `Message`. What counts events reads them by
    `position`, which the hot path gets for nothing more than a BRIN index.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    application = models.ForeignKey(
        Application, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    message = models.ForeignKey(Message, models.DO_NOTHING, related_name="events", db_constraint=False, db_index=False)
    event_type = models.CharField(_("event"), max_length=16, choices=MessageStatus.choices)
    """The state that the message moved to."""
    occurred_at = models.DateTimeField(_("occurred"))
    metadata = models.JSONField(_("metadata"), null=True)
    position = position_field()

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("message event")
        verbose_name_plural = _("message events")
        indexes = (BrinIndex(fields=("position",), name="message_event_position", autosummarize=True),)

    def __str__(self) -> str:
        return f"{self.get_event_type_display()} · {self.message_id}"


class GatewayRequest(models.Model):
    """A request to a gateway whose later reports name the request and not our messages (`Result.request_id`).

    Reports are matched by it, and asked for while some are missing. One request may be several rows: results are
    recorded in slices.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    credential_id = models.UUIDField(_("credential"))
    provider = models.CharField(_("provider"), max_length=16)
    request_id = models.CharField(_("request"), max_length=100)
    message_ids = ArrayField(models.UUIDField(), verbose_name=_("messages"))
    references = ArrayField(models.CharField(max_length=100), verbose_name=_("the provider's ids"))
    """The provider's id of each message, in the order of `message_ids`."""
    sent_at = models.DateTimeField(_("sent"), default=timezone.now)
    ask_at = models.DateTimeField(_("asked next"), null=True)
    """When the gateway is asked for reports that have not come; null: no more."""
    asked = models.PositiveSmallIntegerField(_("asked"), default=0)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("gateway request")
        verbose_name_plural = _("gateway requests")
        indexes = (
            models.Index(fields=("credential_id", "request_id"), name="gateway_request_by_id"),
            models.Index(fields=("ask_at",), name="gateway_request_due", condition=models.Q(ask_at__isnull=False)),
            models.Index(fields=("application", "id"), name="gateway_request_by_app"),
        )

    def __str__(self) -> str:
        return f"{self.provider} · {self.request_id}"


class MessageRequeue(models.Model):
    """An order to send failed messages again: which, and how far it is (`apps.messaging.requeue`)."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    campaign_id = models.UUIDField(_("campaign"), null=True)
    error_reason = models.CharField(_("reason"), max_length=100, blank=True)
    error_class = models.CharField(_("class"), max_length=16, blank=True)
    since = models.DateTimeField(_("since"), null=True)
    until = models.DateTimeField(_("until"))
    """Made before. Never after the order itself, so that it does not meet its own messages."""
    after_id = models.UUIDField(null=True)
    """Checkpoint: failed messages up to this one were looked at."""
    requeued = models.PositiveIntegerField(_("requeued"), default=0)
    skipped = models.JSONField(_("skipped"), default=dict)
    """Messages that were left as they are, by why."""
    requested_by = models.CharField(_("requested by"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    updated_at = models.DateTimeField(_("last step"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("requeue")
        verbose_name_plural = _("requeues")
        indexes = (
            models.Index(fields=("application", "id"), name="requeue_by_application"),
            models.Index(fields=("updated_at",), name="requeue_unfinished", condition=models.Q(finished_at=None)),
        )

    def __str__(self) -> str:
        return str(self.id)
