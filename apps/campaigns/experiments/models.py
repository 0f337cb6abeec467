"""The plan of an A/B test, its variants, and what became of their messages."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.messaging.models import MessageTemplate
from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.ids import new_id

LETTERS = "ABCDE"
"""The first is the control, which the others are compared with."""


class WinnerBy(models.TextChoices):
    HAND = "hand", _("A person")
    RULE = "rule", _("A rule")


class Metric(models.TextChoices):
    """What is compared: how many of the messages that a provider took got so far."""

    CONVERTED = "converted", _("Opened or clicked")
    RECEIVED = "received", _("Received")


class Fallback(models.TextChoices):
    """What is done when it is time, and the confidence is not reached."""

    BEST = "best", _("Take the best so far")
    CONTROL = "control", _("Take variant A")
    WAIT = "wait", _("Wait for a person")


class Experiment(models.Model):
    """How a campaign tests its variants, and how it came out. Its campaign `has_variants`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    campaign = models.OneToOneField("campaigns.MessageCampaign", models.CASCADE, related_name="experiment")
    holdout_percent = models.PositiveSmallIntegerField(_("get nothing (%)"), default=0)
    """Of the whole audience; counted, for comparison."""
    test_percent = models.PositiveSmallIntegerField(_("test (%)"), default=100)
    """Of those who get something: so many are shared among the variants at once, the rest wait for the winner."""
    winner_by = models.CharField(_("winner chosen by"), max_length=8, choices=WinnerBy.choices, default=WinnerBy.HAND)
    metric = models.CharField(_("compared by"), max_length=16, choices=Metric.choices, default=Metric.CONVERTED)
    decide_after_h = models.PositiveSmallIntegerField(_("decided after (hours)"), default=4)
    """Since the test's part of the audience is cut."""
    confidence_percent = models.PositiveSmallIntegerField(_("confidence (%)"), default=95)
    """How probable it has to be that the best so far is the best."""
    fallback = models.CharField(_("otherwise"), max_length=8, choices=Fallback.choices, default=Fallback.WAIT)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    decide_at = models.DateTimeField(_("to be decided"), null=True, editable=False)
    """When the rule is asked; null: not (yet), or it has been."""
    asked_at = models.DateTimeField(_("rule asked"), null=True, editable=False)
    """When the rule left it to a person."""
    winner = models.ForeignKey(
        "campaigns.Variant", models.SET_NULL, null=True, editable=False, related_name="+", verbose_name=_("winner")
    )
    decided_at = models.DateTimeField(_("decided"), null=True, editable=False)
    decided_by = models.CharField(_("decided by"), max_length=200, blank=True, editable=False)
    """Who; empty: the rule."""
    decided_because = models.CharField(max_length=16, blank=True, editable=False)
    """`confidence`, `best`, `control` or `person`."""
    decided_confidence = models.FloatField(null=True, editable=False)
    """The probability, 0 to 1, that the winner was the best, as of then."""

    held_out = models.PositiveIntegerField(_("get nothing"), default=0, editable=False)
    """So many recipients, counted by the fan-out."""

    activity = models.JSONField(
        default=dict, blank=True, editable=False, db_default=models.Value({}, models.JSONField())
    )
    """Letter (`-`: those who get nothing) → how many recipients were counted, and how many of them have used the app
    since the launch. Counted now and then where somebody gets nothing."""
    measured_at = models.DateTimeField(_("measured"), null=True, editable=False)
    measure_at = models.DateTimeField(null=True, editable=False)
    """When it is counted next; null: not (any more)."""

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("A/B test")
        verbose_name_plural = _("A/B tests")
        indexes = (
            models.Index(fields=("application", "id"), name="experiment_by_application"),
            models.Index(
                fields=("decide_at",), name="experiment_to_decide", condition=models.Q(decide_at__isnull=False)
            ),
            models.Index(
                fields=("measure_at",), name="experiment_to_measure", condition=models.Q(measure_at__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return f"A/B · {self.campaign_id}"

    @property
    def has_rest(self) -> bool:
        """Whether a part of the audience waits for the winner."""
        return self.test_percent < 100


class Variant(models.Model):
    """One content of a test. Without words of its own it says what its campaign says."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="variants", db_index=False)
    letter = models.CharField(_("letter"), max_length=1)
    name = models.CharField(_("name"), max_length=100, blank=True)
    share_percent = models.PositiveSmallIntegerField(_("share (%)"))
    """Of the test."""
    template = models.ForeignKey(MessageTemplate, models.PROTECT, null=True, blank=True, related_name="+")
    title = models.TextField(_("title"), blank=True)
    body = models.TextField(_("body"), blank=True)
    data = models.JSONField(_("data"), default=dict, blank=True)
    options = models.JSONField(_("options"), default=dict, blank=True)
    dispatch_id = models.UUIDField(null=True, editable=False)
    """What sends it to its part of the test; null: not launched."""

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("variant")
        verbose_name_plural = _("variants")
        ordering = ("letter",)
        constraints = (models.UniqueConstraint(fields=("experiment", "letter"), name="one_variant_per_letter"),)
        indexes = (models.Index(fields=("application", "id"), name="variant_by_application"),)

    def __str__(self) -> str:
        return f"{self.letter} · {self.name}" if self.name else self.letter

    @property
    def has_own_content(self) -> bool:
        return bool(self.template_id or self.title or self.body or self.data or self.options)


class Part(models.TextChoices):
    TEST = "test", _("Test")
    REST = "rest", _("After the decision")


class VariantTally(models.Model):
    """What became of a variant's messages: in the test, and apart from it in the rest that gets the winner, which is
    not to be compared with.

    Kept by the recorder, one statement a slice, while the campaign's own row is locked. A dispatch names its row
    (`Dispatch.tally_id`). No database foreign key: a slice of results is never refused because of its counters.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_constraint=False, db_index=False)
    variant = models.ForeignKey(
        Variant, models.CASCADE, related_name="tallies", db_constraint=False, verbose_name=_("variant")
    )
    part = models.CharField(_("part"), max_length=8, choices=Part.choices)
    total = models.PositiveIntegerField(_("recipients"), default=0)
    successful = models.PositiveIntegerField(_("successful"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    received = models.PositiveIntegerField(_("received"), default=0)
    converted = models.PositiveIntegerField(_("converted"), default=0)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("figures of a variant")
        verbose_name_plural = _("figures of variants")
        constraints = (models.UniqueConstraint(fields=("application", "variant", "part"), name="one_tally_per_part"),)

    def __str__(self) -> str:
        return f"{self.variant_id} · {self.part}"
