"""Sender profiles and templates of Alimtalk, as the provider that relays them to Kakao has them."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.tenants.models import Application, ChannelCredential, ScopedQuerySet
from automata_signal.ids import new_id


class ChannelState(models.TextChoices):
    ACTIVE = "active", _("Active")
    BLOCKED = "blocked", _("Blocked")
    GONE = "gone", _("No longer at the provider")


class KakaoChannel(models.Model):
    """A sender profile (발신 프로필): the KakaoTalk channel that messages come from."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+")
    credential = models.ForeignKey(ChannelCredential, models.CASCADE, related_name="+", verbose_name=_("credential"))
    provider = models.CharField(_("provider"), max_length=16)
    sender_key = models.CharField(_("sender key"), max_length=64)
    """Solapi's pfId, NHN Cloud's senderKey."""
    search_id = models.CharField(_("search id"), max_length=100, blank=True)
    """@example"""
    state = models.CharField(_("state"), max_length=16, choices=ChannelState.choices, default=ChannelState.ACTIVE)
    synced_at = models.DateTimeField(_("in step since"), default=timezone.now)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("Kakao channel")
        verbose_name_plural = _("Kakao channels")
        constraints = [
            models.UniqueConstraint(fields=("credential", "sender_key"), name="one_kakao_channel_per_sender_key")
        ]

    def __str__(self) -> str:
        return self.search_id or self.sender_key


class TemplateState(models.TextChoices):
    """Solapi and NHN Cloud name the steps differently; these are the steps."""

    DRAFT = "draft", _("Draft")
    REQUESTED = "requested", _("Inspection requested")
    REVIEWING = "reviewing", _("Under inspection")
    APPROVED = "approved", _("Approved")
    REJECTED = "rejected", _("Rejected")
    GONE = "gone", _("No longer at the provider")


class Emphasis(models.TextChoices):
    NONE = "none", _("None")
    TEXT = "text", _("Title")
    IMAGE = "image", _("Image")
    ITEM_LIST = "item_list", _("List of items")


class KakaoTemplate(models.Model):
    """A text that Kakao approves before anything is sent with it. `#{name}` stands for a variable."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+")
    channel = models.ForeignKey(KakaoChannel, models.CASCADE, related_name="templates", verbose_name=_("channel"))
    code = models.CharField(_("code"), max_length=64)
    """The provider's: Solapi's templateId, NHN Cloud's templateCode."""
    name = models.CharField(_("name"), max_length=150)
    content = models.TextField(_("text"))
    message_type = models.CharField(_("kind"), max_length=16, default="basic")
    """basic, extra (with `extra`), ad (add the channel), mixed."""
    emphasis = models.CharField(_("emphasis"), max_length=16, choices=Emphasis.choices, default=Emphasis.NONE)
    title = models.CharField(_("title"), max_length=200, blank=True)
    subtitle = models.CharField(_("subtitle"), max_length=200, blank=True)
    header = models.CharField(_("header"), max_length=100, blank=True)
    extra = models.TextField(_("more information"), blank=True)
    items = models.JSONField(_("items"), default=dict, blank=True)
    """Of a list: the provider's own form."""
    buttons = models.JSONField(_("buttons"), default=list, blank=True)
    """`{"type", "name", "link_mobile", "link_pc", "scheme_android", "scheme_ios"}`"""
    quick_replies = models.JSONField(_("quick replies"), default=list, blank=True)
    state = models.CharField(_("state"), max_length=16, choices=TemplateState.choices, default=TemplateState.DRAFT)
    provider_state = models.CharField(_("state at the provider"), max_length=32, blank=True)
    comments = models.JSONField(_("comments"), default=list, blank=True)
    """What inspectors and we wrote: `{"text", "by", "at"}`."""
    is_dormant = models.BooleanField(_("dormant"), default=False)
    """Not used for a year: Kakao must be asked to wake it up."""
    synced_at = models.DateTimeField(_("in step since"), default=timezone.now)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("Alimtalk template")
        verbose_name_plural = _("Alimtalk templates")
        constraints = [models.UniqueConstraint(fields=("channel", "code"), name="one_kakao_template_per_code")]
        indexes = [models.Index(fields=("application", "code"), name="kakao_template_by_code")]

    def __str__(self) -> str:
        return self.name

    @property
    def is_usable(self) -> bool:
        """Whether messages can be sent with it."""
        return (
            self.state == TemplateState.APPROVED and not self.is_dormant and self.channel.state == ChannelState.ACTIVE
        )
