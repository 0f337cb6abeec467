"""Files that messages show or carry: one row for each upload, and one for each form of it that a channel takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.ids import new_id

if TYPE_CHECKING:
    from django_stubs_ext.db.models.manager import RelatedManager


class MediaKind(models.TextChoices):
    IMAGE = "image", _("Image")
    ATTACHMENT = "attachment", _("Attachment")


class MediaFile(models.Model):
    """One upload. Its content never changes, so that an address means the same for as long as it is there."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    kind = models.CharField(_("kind"), max_length=10, choices=MediaKind.choices)
    file_name = models.CharField(_("file"), max_length=120)
    """As the sender calls it, cleaned; it ends as its content does."""
    content_type = models.CharField(_("type"), max_length=100)
    """Found in the content."""
    file_bytes = models.BigIntegerField(_("bytes"))
    stored_bytes = models.BigIntegerField(_("bytes with its variants"))
    """What counts for the application's quota."""
    sha256 = models.CharField("SHA-256", max_length=64)
    """Of what is stored: images are encoded anew."""
    width = models.PositiveIntegerField(_("width"), null=True)
    height = models.PositiveIntegerField(_("height"), null=True)
    is_animated = models.BooleanField(_("animated"), default=False)
    stored_as = models.CharField(max_length=200, editable=False)
    uploaded_by = models.CharField(_("uploaded by"), max_length=200)
    created_at = models.DateTimeField(_("uploaded"), default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)
    """When content that names it was last accepted."""

    objects = ScopedQuerySet.as_manager()
    variants: RelatedManager[MediaVariant]

    class Meta:
        verbose_name = _("media file")
        verbose_name_plural = _("media files")
        indexes = (
            models.Index(fields=("application", "id"), name="media_by_application"),
            models.Index(fields=("created_at",), name="media_never_used", condition=models.Q(last_used_at=None)),
            models.Index(fields=("last_used_at",), name="media_last_used"),
        )

    def __str__(self) -> str:
        return self.file_name

    @property
    def is_image(self) -> bool:
        return self.kind == MediaKind.IMAGE


class MediaVariant(models.Model):
    """An image as one channel takes it (`images.CHANNEL_IMAGES`); made once, when it is first asked for."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    media = models.ForeignKey(MediaFile, models.CASCADE, related_name="variants")
    name = models.CharField(_("for"), max_length=20)
    content_type = models.CharField(_("type"), max_length=100)
    file_bytes = models.BigIntegerField(_("bytes"))
    sha256 = models.CharField("SHA-256", max_length=64)
    width = models.PositiveIntegerField(_("width"))
    height = models.PositiveIntegerField(_("height"))
    stored_as = models.CharField(max_length=200, editable=False)
    created_at = models.DateTimeField(_("made"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("variant of a media file")
        verbose_name_plural = _("variants of media files")
        constraints = (models.UniqueConstraint(fields=("media", "name"), name="one_variant_per_name"),)

    def __str__(self) -> str:
        return f"{self.media_id} {self.name}"
