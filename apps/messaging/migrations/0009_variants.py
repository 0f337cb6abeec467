from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("messaging", "0008_chains"),
    ]

    operations = [
        migrations.AddField(
            model_name="dispatch",
            name="reserved_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="dispatch",
            name="split_from",
            field=models.PositiveIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="dispatch",
            name="split_to",
            field=models.PositiveIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="dispatch",
            name="tally_id",
            field=models.UUIDField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="dispatch",
            name="variant",
            field=models.CharField(
                blank=True, db_default="", default="", editable=False, max_length=1, verbose_name="variant"
            ),
        ),
    ]
