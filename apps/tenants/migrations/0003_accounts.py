from django.db import migrations, models
import django.utils.timezone
import uuid_utils.compat


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0002_channels"),
    ]

    operations = [
        migrations.CreateModel(
            name="AuditEvent",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("at", models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="when")),
                ("application_id", models.UUIDField(editable=False, null=True, verbose_name="application")),
                ("operator_id", models.UUIDField(editable=False, null=True, verbose_name="operator")),
                ("actor", models.CharField(editable=False, max_length=200, verbose_name="who")),
                ("action", models.CharField(editable=False, max_length=60, verbose_name="what")),
                ("object_label", models.CharField(blank=True, editable=False, max_length=60, verbose_name="kind")),
                ("object_id", models.CharField(blank=True, editable=False, max_length=64, verbose_name="id")),
                ("object_name", models.CharField(blank=True, editable=False, max_length=200, verbose_name="of")),
                ("changes", models.JSONField(default=dict, editable=False, verbose_name="changes")),
                ("details", models.JSONField(default=dict, editable=False, verbose_name="details")),
                ("ip", models.GenericIPAddressField(editable=False, null=True, verbose_name="from")),
                ("user_agent", models.CharField(blank=True, editable=False, max_length=300, verbose_name="browser")),
                ("request_id", models.CharField(blank=True, editable=False, max_length=64, verbose_name="request")),
            ],
            options={
                "verbose_name": "audit event",
                "verbose_name_plural": "audit log",
                "ordering": ("-id",),
                "indexes": [
                    models.Index(fields=["application_id", "-id"], name="audit_by_application"),
                    models.Index(fields=["operator_id", "-id"], name="audit_by_operator"),
                    models.Index(fields=["object_id", "-id"], name="audit_by_object"),
                ],
            },
        ),
    ]
