from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0003_accounts"),
    ]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="last_used_from",
            field=models.GenericIPAddressField(blank=True, editable=False, null=True, verbose_name="last used from"),
        ),
        migrations.AddField(
            model_name="channelcredential",
            name="expires_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="expires"),
        ),
        migrations.AddField(
            model_name="historicalchannelcredential",
            name="expires_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="expires"),
        ),
        migrations.AddField(
            model_name="channelcredential",
            name="expiry_told_days",
            field=models.PositiveSmallIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="channelcredential",
            name="check_started_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="channelcredential",
            name="checked_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="checked with the provider"),
        ),
        migrations.AddField(
            model_name="channelcredential",
            name="check_ok",
            field=models.BooleanField(editable=False, null=True, verbose_name="the provider takes it"),
        ),
        migrations.AddField(
            model_name="channelcredential",
            name="check_message",
            field=models.CharField(blank=True, editable=False, max_length=500, verbose_name="what the provider said"),
        ),
    ]
