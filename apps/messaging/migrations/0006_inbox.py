import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

# Room on each page for an item's next state, so that updates stay HOT: no index names what they change.
FILLFACTOR = "ALTER TABLE messaging_inboxitem SET (fillfactor = 80, autovacuum_vacuum_insert_scale_factor = 0.05)"
AS_USUAL = "ALTER TABLE messaging_inboxitem RESET (fillfactor, autovacuum_vacuum_insert_scale_factor)"


class Migration(migrations.Migration):
    dependencies = [("messaging", "0005_webhooks")]

    operations = [
        migrations.CreateModel(
            name="InboxItem",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("owner_id", models.UUIDField(verbose_name="owner")),
                ("dispatch_id", models.UUIDField(verbose_name="dispatch")),
                ("arrived_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="arrived")),
                ("starts_at", models.DateTimeField(null=True, verbose_name="seen from")),
                ("expires_at", models.DateTimeField(verbose_name="seen until")),
                ("read_at", models.DateTimeField(null=True, verbose_name="read")),
                ("archived_at", models.DateTimeField(null=True, verbose_name="archived")),
                ("shown_count", models.PositiveSmallIntegerField(db_default=0, default=0, verbose_name="shown")),
                ("last_shown_at", models.DateTimeField(null=True, verbose_name="last shown")),
                (
                    "application",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.application",
                    ),
                ),
            ],
            options={
                "verbose_name": "inbox item",
                "verbose_name_plural": "inbox items",
                "constraints": [
                    models.UniqueConstraint(fields=("owner_id", "dispatch_id"), name="one_inbox_item_per_dispatch")
                ],
            },
        ),
        migrations.RunSQL(FILLFACTOR, AS_USUAL),
    ]
