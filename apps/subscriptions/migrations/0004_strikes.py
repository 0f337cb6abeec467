from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0003_preferences")]

    operations = [
        migrations.AddField(
            "subscription",
            "soft_failures",
            models.PositiveSmallIntegerField(
                db_default=0, default=0, editable=False, verbose_name="failures in a row"
            ),
        ),
        migrations.AddField(
            "subscription",
            "soft_failed_at",
            models.DateTimeField(editable=False, null=True, verbose_name="last such failure"),
        ),
    ]
