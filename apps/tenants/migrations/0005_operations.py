import django.utils.timezone
from django.db import migrations, models

CAUSES = [
    ("mismatch", "Addresses do not fit"),
    ("refused", "The provider refused the credential"),
    ("outage", "The provider does not answer"),
    ("held", "An operator keeps it stopped"),
]


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0004_applications"),
    ]

    operations = [
        migrations.CreateModel(
            name="PlatformSwitch",
            fields=[
                (
                    "name",
                    models.CharField(
                        editable=False, max_length=40, primary_key=True, serialize=False, verbose_name="switch"
                    ),
                ),
                ("is_off", models.BooleanField(default=False, verbose_name="is off")),
                ("reason", models.CharField(blank=True, max_length=300, verbose_name="why")),
                ("changed_by", models.CharField(blank=True, editable=False, max_length=200, verbose_name="by")),
                (
                    "changed_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="since"),
                ),
            ],
            options={"verbose_name": "switch", "verbose_name_plural": "switches"},
        ),
        migrations.AlterField(
            model_name="channelcredential",
            name="breaker_cause",
            field=models.CharField(
                choices=CAUSES, db_default="", default="", editable=False, max_length=16, verbose_name="kind of stop"
            ),
        ),
        migrations.AlterField(
            model_name="historicalchannelcredential",
            name="breaker_cause",
            field=models.CharField(
                choices=CAUSES, db_default="", default="", editable=False, max_length=16, verbose_name="kind of stop"
            ),
        ),
    ]
