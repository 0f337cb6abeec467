import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("campaigns", "0003_flow"),
        ("messaging", "0009_variants"),
    ]

    operations = [
        migrations.AddField(
            model_name="messagecampaign",
            name="awaits_winner",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.AddField(
            model_name="messagecampaign",
            name="has_variants",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.CreateModel(
            name="Experiment",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("holdout_percent", models.PositiveSmallIntegerField(default=0, verbose_name="get nothing (%)")),
                ("test_percent", models.PositiveSmallIntegerField(default=100, verbose_name="test (%)")),
                (
                    "winner_by",
                    models.CharField(
                        choices=[("hand", "A person"), ("rule", "A rule")],
                        default="hand",
                        max_length=8,
                        verbose_name="winner chosen by",
                    ),
                ),
                (
                    "metric",
                    models.CharField(
                        choices=[("converted", "Opened or clicked"), ("received", "Received")],
                        default="converted",
                        max_length=16,
                        verbose_name="compared by",
                    ),
                ),
                ("decide_after_h", models.PositiveSmallIntegerField(default=4, verbose_name="decided after (hours)")),
                ("confidence_percent", models.PositiveSmallIntegerField(default=95, verbose_name="confidence (%)")),
                (
                    "fallback",
                    models.CharField(
                        choices=[
                            ("best", "Take the best so far"),
                            ("control", "Take variant A"),
                            ("wait", "Wait for a person"),
                        ],
                        default="wait",
                        max_length=8,
                        verbose_name="otherwise",
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="created"),
                ),
                ("decide_at", models.DateTimeField(editable=False, null=True, verbose_name="to be decided")),
                ("asked_at", models.DateTimeField(editable=False, null=True, verbose_name="rule asked")),
                ("decided_at", models.DateTimeField(editable=False, null=True, verbose_name="decided")),
                ("decided_by", models.CharField(blank=True, editable=False, max_length=200, verbose_name="decided by")),
                ("decided_because", models.CharField(blank=True, editable=False, max_length=16)),
                ("decided_confidence", models.FloatField(editable=False, null=True)),
                ("held_out", models.PositiveIntegerField(default=0, editable=False, verbose_name="get nothing")),
                (
                    "activity",
                    models.JSONField(
                        blank=True, db_default=models.Value({}, models.JSONField()), default=dict, editable=False
                    ),
                ),
                ("measured_at", models.DateTimeField(editable=False, null=True, verbose_name="measured")),
                ("measure_at", models.DateTimeField(editable=False, null=True)),
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
                    "campaign",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="experiment",
                        to="campaigns.messagecampaign",
                    ),
                ),
            ],
            options={
                "verbose_name": "A/B test",
                "verbose_name_plural": "A/B tests",
            },
        ),
        migrations.CreateModel(
            name="Variant",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("letter", models.CharField(max_length=1, verbose_name="letter")),
                ("name", models.CharField(blank=True, max_length=100, verbose_name="name")),
                ("share_percent", models.PositiveSmallIntegerField(verbose_name="share (%)")),
                ("title", models.TextField(blank=True, verbose_name="title")),
                ("body", models.TextField(blank=True, verbose_name="body")),
                ("data", models.JSONField(blank=True, default=dict, verbose_name="data")),
                ("options", models.JSONField(blank=True, default=dict, verbose_name="options")),
                ("dispatch_id", models.UUIDField(editable=False, null=True)),
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
                    "experiment",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="variants",
                        to="campaigns.experiment",
                    ),
                ),
                (
                    "template",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="messaging.messagetemplate",
                    ),
                ),
            ],
            options={
                "verbose_name": "variant",
                "verbose_name_plural": "variants",
                "ordering": ("letter",),
            },
        ),
        migrations.AddField(
            model_name="experiment",
            name="winner",
            field=models.ForeignKey(
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="campaigns.variant",
                verbose_name="winner",
            ),
        ),
        migrations.CreateModel(
            name="VariantTally",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "part",
                    models.CharField(
                        choices=[("test", "Test"), ("rest", "After the decision")], max_length=8, verbose_name="part"
                    ),
                ),
                ("total", models.PositiveIntegerField(default=0, verbose_name="recipients")),
                ("successful", models.PositiveIntegerField(default=0, verbose_name="successful")),
                ("failed", models.PositiveIntegerField(default=0, verbose_name="failed")),
                ("received", models.PositiveIntegerField(default=0, verbose_name="received")),
                ("converted", models.PositiveIntegerField(default=0, verbose_name="converted")),
                (
                    "application",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.application",
                    ),
                ),
                (
                    "variant",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tallies",
                        to="campaigns.variant",
                        verbose_name="variant",
                    ),
                ),
            ],
            options={
                "verbose_name": "figures of a variant",
                "verbose_name_plural": "figures of variants",
            },
        ),
        migrations.AddIndex(
            model_name="variant",
            index=models.Index(fields=["application", "id"], name="variant_by_application"),
        ),
        migrations.AddConstraint(
            model_name="variant",
            constraint=models.UniqueConstraint(fields=("experiment", "letter"), name="one_variant_per_letter"),
        ),
        migrations.AddIndex(
            model_name="experiment",
            index=models.Index(fields=["application", "id"], name="experiment_by_application"),
        ),
        migrations.AddIndex(
            model_name="experiment",
            index=models.Index(
                condition=models.Q(("decide_at__isnull", False)), fields=["decide_at"], name="experiment_to_decide"
            ),
        ),
        migrations.AddIndex(
            model_name="experiment",
            index=models.Index(
                condition=models.Q(("measure_at__isnull", False)), fields=["measure_at"], name="experiment_to_measure"
            ),
        ),
        migrations.AddConstraint(
            model_name="varianttally",
            constraint=models.UniqueConstraint(fields=("application", "variant", "part"), name="one_tally_per_part"),
        ),
    ]
