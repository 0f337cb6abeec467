import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
import simple_history.models
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models

import automata_signal.encryption


class Migration(migrations.Migration):
    dependencies = [
        ("messaging", "0004_media"),
        ("tenants", "0002_channels"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="WebhookReader",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=16, unique=True, verbose_name="name")),
                ("watermark", models.BigIntegerField(default=0, verbose_name="watermark")),
                ("sequence", models.BigIntegerField(default=0, verbose_name="deliveries made")),
                ("caught_up_at", models.DateTimeField(null=True, verbose_name="caught up")),
                ("updated_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="last step")),
            ],
            options={
                "verbose_name": "webhook reader",
                "verbose_name_plural": "webhook readers",
            },
        ),
        migrations.CreateModel(
            name="HistoricalWebhookEndpoint",
            fields=[
                ("id", models.UUIDField(db_index=True, default=uuid_utils.compat.uuid7, editable=False)),
                ("url", models.CharField(max_length=500, verbose_name="address")),
                ("description", models.CharField(blank=True, max_length=200, verbose_name="description")),
                (
                    "previous_until",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="previous secret until"),
                ),
                (
                    "event_types",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=40),
                        blank=True,
                        default=list,
                        size=None,
                        verbose_name="event types",
                    ),
                ),
                (
                    "channels",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[
                                ("push", "Push"),
                                ("email", "E-mail"),
                                ("sms", "SMS"),
                                ("kakao_talk", "Kakao Alimtalk"),
                                ("in_app", "In-app"),
                            ],
                            max_length=16,
                        ),
                        blank=True,
                        default=list,
                        size=None,
                        verbose_name="channels",
                    ),
                ),
                ("is_active", models.BooleanField(default=True, verbose_name="active")),
                (
                    "disabled_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="disabled at"),
                ),
                (
                    "disabled_reason",
                    models.CharField(blank=True, editable=False, max_length=200, verbose_name="disabled because"),
                ),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="created"),
                ),
                (
                    "updated_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="changed"),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                ("history_change_reason", models.CharField(max_length=100, null=True)),
                (
                    "history_type",
                    models.CharField(choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1),
                ),
                (
                    "application",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.application",
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "historical webhook",
                "verbose_name_plural": "historical webhooks",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="WebhookEndpoint",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("url", models.CharField(max_length=500, verbose_name="address")),
                ("description", models.CharField(blank=True, max_length=200, verbose_name="description")),
                ("secret", automata_signal.encryption.EncryptedTextField(verbose_name="secret")),
                (
                    "previous_secret",
                    automata_signal.encryption.EncryptedTextField(null=True, verbose_name="previous secret"),
                ),
                (
                    "previous_until",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="previous secret until"),
                ),
                (
                    "event_types",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=40),
                        blank=True,
                        default=list,
                        size=None,
                        verbose_name="event types",
                    ),
                ),
                (
                    "channels",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[
                                ("push", "Push"),
                                ("email", "E-mail"),
                                ("sms", "SMS"),
                                ("kakao_talk", "Kakao Alimtalk"),
                                ("in_app", "In-app"),
                            ],
                            max_length=16,
                        ),
                        blank=True,
                        default=list,
                        size=None,
                        verbose_name="channels",
                    ),
                ),
                ("lanes", models.PositiveSmallIntegerField(editable=False, verbose_name="lanes")),
                ("from_position", models.BigIntegerField(editable=False)),
                ("is_active", models.BooleanField(default=True, verbose_name="active")),
                (
                    "disabled_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="disabled at"),
                ),
                (
                    "disabled_reason",
                    models.CharField(blank=True, editable=False, max_length=200, verbose_name="disabled because"),
                ),
                ("tell_at", models.DateTimeField(editable=False, null=True)),
                (
                    "consecutive_failures",
                    models.PositiveIntegerField(default=0, editable=False, verbose_name="failures in a row"),
                ),
                (
                    "last_success_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="last delivered"),
                ),
                ("last_error", models.CharField(blank=True, editable=False, max_length=200, verbose_name="last error")),
                (
                    "last_error_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="last error at"),
                ),
                ("lost_events", models.BigIntegerField(default=0, editable=False, verbose_name="events lost")),
                ("lost_at", models.DateTimeField(blank=True, editable=False, null=True, verbose_name="last lost at")),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="created"),
                ),
                (
                    "updated_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="changed"),
                ),
                (
                    "application",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.application"
                    ),
                ),
            ],
            options={
                "verbose_name": "webhook",
                "verbose_name_plural": "webhooks",
            },
        ),
        migrations.CreateModel(
            name="WebhookDelivery",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[("message", "Messages"), ("subscription", "Subscriptions"), ("test", "Test")],
                        max_length=16,
                        verbose_name="of",
                    ),
                ),
                ("lane", models.SmallIntegerField(verbose_name="lane")),
                ("sequence", models.BigIntegerField(verbose_name="sequence")),
                (
                    "event_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.UUIDField(), size=None, verbose_name="events"
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("waiting", "Waiting"), ("delivered", "Delivered"), ("parked", "Given up")],
                        db_default="waiting",
                        default="waiting",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                ("attempts", models.PositiveIntegerField(db_default=0, default=0, verbose_name="attempts")),
                ("first_attempt_at", models.DateTimeField(null=True, verbose_name="first attempt")),
                ("attempted_at", models.DateTimeField(null=True, verbose_name="last attempt")),
                ("status", models.PositiveSmallIntegerField(null=True, verbose_name="HTTP status")),
                ("duration_ms", models.PositiveIntegerField(null=True, verbose_name="duration (ms)")),
                (
                    "error",
                    models.CharField(blank=True, db_default="", default="", max_length=200, verbose_name="error"),
                ),
                ("replay_of", models.UUIDField(null=True, verbose_name="replay of")),
                (
                    "requested_by",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=200, verbose_name="requested by"
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="created")),
                (
                    "application",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.application",
                    ),
                ),
                (
                    "endpoint",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="messaging.webhookendpoint",
                    ),
                ),
            ],
            options={
                "verbose_name": "webhook delivery",
                "verbose_name_plural": "webhook deliveries",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "waiting")),
                        fields=["endpoint", "lane", "sequence"],
                        name="webhook_delivery_next",
                    ),
                    models.Index(fields=["endpoint", "id"], name="webhook_delivery_of"),
                    models.Index(fields=["application", "id"], name="webhook_delivery_by_app"),
                ],
            },
        ),
        migrations.CreateModel(
            name="WebhookLane",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("number", models.SmallIntegerField(verbose_name="number")),
                ("lease_id", models.UUIDField(null=True)),
                ("lease_until", models.DateTimeField(null=True, verbose_name="leased until")),
                ("retry_at", models.DateTimeField(null=True, verbose_name="next attempt")),
                ("served_at", models.DateTimeField(null=True, verbose_name="last served")),
                (
                    "endpoint",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="parts",
                        to="messaging.webhookendpoint",
                    ),
                ),
            ],
            options={
                "verbose_name": "webhook lane",
                "verbose_name_plural": "webhook lanes",
                "constraints": [
                    models.UniqueConstraint(fields=("endpoint", "number"), name="one_webhook_lane_per_number")
                ],
            },
        ),
    ]
