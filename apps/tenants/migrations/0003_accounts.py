import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models

# Rows of the audit log are only added. Who deletes is the retention alone, which says so in its transaction.
KEEP_EVENTS = """
CREATE FUNCTION tenants_keep_audit_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('automata.audit_retention', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'rows of the audit log are not changed and not deleted' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER tenants_keep_audit_event BEFORE UPDATE OR DELETE ON tenants_auditevent
    FOR EACH ROW EXECUTE FUNCTION tenants_keep_audit_event();
"""
FORGET_KEEPING = """
DROP TRIGGER tenants_keep_audit_event ON tenants_auditevent;
DROP FUNCTION tenants_keep_audit_event();
"""


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
                "verbose_name_plural": "audit events",
                "ordering": ("-id",),
                "indexes": [
                    models.Index(fields=["application_id", "-id"], name="audit_by_application"),
                    models.Index(fields=["operator_id", "-id"], name="audit_by_operator"),
                    models.Index(fields=["object_id", "-id"], name="audit_by_object"),
                ],
            },
        ),
        migrations.AddField(
            model_name="auditevent",
            name="area",
            field=models.GeneratedField(
                db_persist=True,
                expression=models.Func(models.F("action"), models.Value("."), models.Value(1), function="split_part"),
                output_field=models.CharField(max_length=60, verbose_name="area"),
            ),
        ),
        migrations.AddIndex(model_name="auditevent", index=models.Index(fields=["area", "-id"], name="audit_by_area")),
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(fields=["application_id", "area", "-id"], name="audit_by_application_area"),
        ),
        migrations.AddIndex(
            model_name="auditevent", index=models.Index(fields=["actor", "-id"], name="audit_by_actor")
        ),
        migrations.AddIndex(model_name="auditevent", index=models.Index(fields=["ip", "-id"], name="audit_by_address")),
        migrations.RunSQL(KEEP_EVENTS, FORGET_KEEPING),
        migrations.AddField(
            model_name="operator",
            name="language",
            field=models.CharField(blank=True, default="", max_length=8, verbose_name="language"),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="operator",
            name="time_zone",
            field=models.CharField(blank=True, default="", max_length=64, verbose_name="time zone"),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="historicaloperator",
            name="language",
            field=models.CharField(blank=True, default="", max_length=8, verbose_name="language"),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="historicaloperator",
            name="time_zone",
            field=models.CharField(blank=True, default="", max_length=64, verbose_name="time zone"),
            preserve_default=False,
        ),
        migrations.CreateModel(
            name="Invitation",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("email", models.EmailField(max_length=254, verbose_name="e-mail")),
                ("name", models.CharField(blank=True, max_length=200, verbose_name="name")),
                ("role", models.CharField(max_length=16, verbose_name="role")),
                ("digest", models.BinaryField(max_length=32, null=True, unique=True)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="invited"),
                ),
                ("sent_at", models.DateTimeField(editable=False, null=True, verbose_name="e-mail sent")),
                ("asked_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires_at", models.DateTimeField(editable=False, verbose_name="works until")),
                ("accepted_at", models.DateTimeField(editable=False, null=True, verbose_name="accepted")),
                ("revoked_at", models.DateTimeField(editable=False, null=True, verbose_name="revoked")),
                (
                    "application",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="invitations",
                        to="tenants.application",
                    ),
                ),
                (
                    "invited_by",
                    models.ForeignKey(
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="invited by",
                    ),
                ),
            ],
            options={
                "verbose_name": "invitation",
                "verbose_name_plural": "invitations",
                "ordering": ("-id",),
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("accepted_at", None), ("revoked_at", None)),
                        fields=("application", "email"),
                        name="one_open_invitation",
                    )
                ],
            },
        ),
    ]
