"""The channels: what plans, quotas, messages and campaigns are told apart by."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class ChannelType(models.TextChoices):
    PUSH = "push", _("Push")
    EMAIL = "email", _("E-mail")
    SMS = "sms", _("SMS")
    KAKAO_TALK = "kakao_talk", _("Kakao Alimtalk")
    IN_APP = "in_app", _("In-app")
