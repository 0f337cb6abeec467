import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("messaging", "0003_channels"), ("tenants", "0002_channels")]

    operations = [
        migrations.CreateModel(
            name="MediaFile",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("image", "Image"), ("attachment", "Attachment")], max_length=10, verbose_name="kind"
                    ),
                ),
                ("file_name", models.CharField(max_length=120, verbose_name="file")),
                ("content_type", models.CharField(max_length=100, verbose_name="type")),
                ("file_bytes", models.BigIntegerField(verbose_name="bytes")),
                ("stored_bytes", models.BigIntegerField(verbose_name="bytes with its variants")),
                ("sha256", models.CharField(max_length=64, verbose_name="SHA-256")),
                ("width", models.PositiveIntegerField(null=True, verbose_name="width")),
                ("height", models.PositiveIntegerField(null=True, verbose_name="height")),
                ("is_animated", models.BooleanField(default=False, verbose_name="animated")),
                ("stored_as", models.CharField(editable=False, max_length=200)),
                ("uploaded_by", models.CharField(max_length=200, verbose_name="uploaded by")),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="uploaded"),
                ),
                ("last_used_at", models.DateTimeField(editable=False, null=True, verbose_name="last used")),
                (
                    "application",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.application",
                    ),
                ),
            ],
            options={"verbose_name": "media file", "verbose_name_plural": "media files"},
        ),
        migrations.CreateModel(
            name="MediaVariant",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=20, verbose_name="for")),
                ("content_type", models.CharField(max_length=100, verbose_name="type")),
                ("file_bytes", models.BigIntegerField(verbose_name="bytes")),
                ("sha256", models.CharField(max_length=64, verbose_name="SHA-256")),
                ("width", models.PositiveIntegerField(verbose_name="width")),
                ("height", models.PositiveIntegerField(verbose_name="height")),
                ("stored_as", models.CharField(editable=False, max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="made"),
                ),
                (
                    "media",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="variants",
                        to="messaging.mediafile",
                    ),
                ),
            ],
            options={
                "verbose_name": "variant of a media file",
                "verbose_name_plural": "variants of media files",
            },
        ),
        migrations.AddIndex(
            model_name="mediafile",
            index=models.Index(fields=["application", "id"], name="media_by_application"),
        ),
        migrations.AddIndex(
            model_name="mediafile",
            index=models.Index(
                condition=models.Q(("last_used_at", None)), fields=["created_at"], name="media_never_used"
            ),
        ),
        migrations.AddIndex(
            model_name="mediafile",
            index=models.Index(fields=["last_used_at"], name="media_last_used"),
        ),
        migrations.AddConstraint(
            model_name="mediavariant",
            constraint=models.UniqueConstraint(fields=("media", "name"), name="one_variant_per_name"),
        ),
    ]
