import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("messaging", "0002_first_partitions"), ("tenants", "0002_channels")]

    operations = [
        migrations.AddField(
            model_name='dispatch',
            name='category',
            field=models.CharField(blank=True, db_default='', default='', max_length=50, verbose_name='category'),
        ),
        migrations.AddField(
            model_name='dispatch',
            name='languages',
            field=models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict, verbose_name='languages'),
        ),
        migrations.AddField(
            model_name='dispatch',
            name='purpose',
            field=models.CharField(choices=[('transactional', 'Transactional'), ('marketing', 'Marketing')], db_default='transactional', default='transactional', max_length=16, verbose_name='purpose'),
        ),
        migrations.AddField(
            model_name='historicalmessagetemplate',
            name='variants',
            field=models.JSONField(blank=True, db_default=models.Value([], models.JSONField()), default=list, verbose_name='variants'),
        ),
        migrations.AddField(
            model_name='messagetemplate',
            name='variants',
            field=models.JSONField(blank=True, db_default=models.Value([], models.JSONField()), default=list, verbose_name='variants'),
        ),
        migrations.AddField(
            model_name='messagetemplateversion',
            name='variants',
            field=models.JSONField(db_default=models.Value([], models.JSONField()), default=list, verbose_name='variants'),
        ),
        migrations.CreateModel(
            name='GatewayRequest',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('credential_id', models.UUIDField(verbose_name='credential')),
                ('provider', models.CharField(max_length=16, verbose_name='provider')),
                ('request_id', models.CharField(max_length=100, verbose_name='request')),
                ('message_ids', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), size=None, verbose_name='messages')),
                ('references', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=100), size=None, verbose_name="the provider's ids")),
                ('sent_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='sent')),
                ('ask_at', models.DateTimeField(null=True, verbose_name='asked next')),
                ('asked', models.PositiveSmallIntegerField(default=0, verbose_name='asked')),
                ('application', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.application')),
            ],
            options={
                'verbose_name': 'gateway request',
                'verbose_name_plural': 'gateway requests',
                'indexes': [models.Index(fields=['credential_id', 'request_id'], name='gateway_request_by_id'), models.Index(condition=models.Q(('ask_at__isnull', False)), fields=['ask_at'], name='gateway_request_due'), models.Index(fields=['application', 'id'], name='gateway_request_by_app')],
            },
        ),
    ]
