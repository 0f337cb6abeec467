"""A row for each switch that somebody has ever turned."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class PlatformSwitch(models.Model):
    """Whether something of the platform is off, and who said so. Without a row it is on (`switches`)."""

    name = models.CharField(_("switch"), max_length=40, primary_key=True, editable=False)
    is_off = models.BooleanField(_("is off"), default=False)
    reason = models.CharField(_("why"), max_length=300, blank=True)
    changed_by = models.CharField(_("by"), max_length=200, blank=True, editable=False)
    changed_at = models.DateTimeField(_("since"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("switch")
        verbose_name_plural = _("switches")

    def __str__(self) -> str:
        return self.name
