import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("messaging", "0006_inbox"), ("tenants", "0002_channels")]

    operations = [
        migrations.CreateModel(
            name="KakaoChannel",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("provider", models.CharField(max_length=16, verbose_name="provider")),
                ("sender_key", models.CharField(max_length=64, verbose_name="sender key")),
                ("search_id", models.CharField(blank=True, max_length=100, verbose_name="search id")),
                (
                    "state",
                    models.CharField(
                        choices=[("active", "Active"), ("blocked", "Blocked"), ("gone", "No longer at the provider")],
                        default="active",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                ("synced_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="in step since")),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="created"),
                ),
                (
                    "application",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.application"
                    ),
                ),
                (
                    "credential",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.channelcredential",
                        verbose_name="credential",
                    ),
                ),
            ],
            options={
                "verbose_name": "Kakao channel",
                "verbose_name_plural": "Kakao channels",
            },
        ),
        migrations.CreateModel(
            name="KakaoTemplate",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("code", models.CharField(max_length=64, verbose_name="code")),
                ("name", models.CharField(max_length=150, verbose_name="name")),
                ("content", models.TextField(verbose_name="text")),
                ("message_type", models.CharField(default="basic", max_length=16, verbose_name="kind")),
                (
                    "emphasis",
                    models.CharField(
                        choices=[
                            ("none", "None"),
                            ("text", "Title"),
                            ("image", "Image"),
                            ("item_list", "List of items"),
                        ],
                        default="none",
                        max_length=16,
                        verbose_name="emphasis",
                    ),
                ),
                ("title", models.CharField(blank=True, max_length=200, verbose_name="title")),
                ("subtitle", models.CharField(blank=True, max_length=200, verbose_name="subtitle")),
                ("header", models.CharField(blank=True, max_length=100, verbose_name="header")),
                ("extra", models.TextField(blank=True, verbose_name="more information")),
                ("items", models.JSONField(blank=True, default=dict, verbose_name="items")),
                ("buttons", models.JSONField(blank=True, default=list, verbose_name="buttons")),
                ("quick_replies", models.JSONField(blank=True, default=list, verbose_name="quick replies")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("draft", "Draft"),
                            ("requested", "Inspection requested"),
                            ("reviewing", "Under inspection"),
                            ("approved", "Approved"),
                            ("rejected", "Rejected"),
                            ("gone", "No longer at the provider"),
                        ],
                        default="draft",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                ("provider_state", models.CharField(blank=True, max_length=32, verbose_name="state at the provider")),
                ("comments", models.JSONField(blank=True, default=list, verbose_name="comments")),
                ("is_dormant", models.BooleanField(default=False, verbose_name="dormant")),
                ("synced_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="in step since")),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="created"),
                ),
                (
                    "application",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.application"
                    ),
                ),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="templates",
                        to="messaging.kakaochannel",
                        verbose_name="channel",
                    ),
                ),
            ],
            options={
                "verbose_name": "Alimtalk template",
                "verbose_name_plural": "Alimtalk templates",
            },
        ),
        migrations.AddConstraint(
            model_name="kakaochannel",
            constraint=models.UniqueConstraint(
                fields=("credential", "sender_key"), name="one_kakao_channel_per_sender_key"
            ),
        ),
        migrations.AddIndex(
            model_name="kakaotemplate",
            index=models.Index(fields=["application", "code"], name="kakao_template_by_code"),
        ),
        migrations.AddConstraint(
            model_name="kakaotemplate",
            constraint=models.UniqueConstraint(fields=("channel", "code"), name="one_kakao_template_per_code"),
        ),
    ]
