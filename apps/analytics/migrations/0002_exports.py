import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0001_rollups'),
        ('tenants', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Export',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(max_length=32, verbose_name='kind')),
                ('filters', models.JSONField(default=dict, verbose_name='filters')),
                ('columns', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=64), default=list, size=None, verbose_name='columns')),
                ('time_zone', models.CharField(default='UTC', max_length=64, verbose_name='time zone')),
                ('with_bom', models.BooleanField(default=False, verbose_name='with BOM')),
                ('is_gzipped', models.BooleanField(default=False, verbose_name='gzip')),
                ('is_masked', models.BooleanField(default=True, verbose_name='masked')),
                ('requested_by', models.CharField(max_length=200, verbose_name='requested by')),
                ('requested_from', models.GenericIPAddressField(null=True, verbose_name='from')),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('running', 'Running'), ('done', 'Done'), ('failed', 'Failed'), ('canceled', 'Canceled'), ('expired', 'Expired')], default='waiting', max_length=12, verbose_name='state')),
                ('rows_written', models.BigIntegerField(default=0, verbose_name='rows')),
                ('rows_read', models.BigIntegerField(default=0, verbose_name='rows looked at')),
                ('rows_estimated', models.BigIntegerField(default=0, verbose_name='rows to look at, about')),
                ('bytes_written', models.BigIntegerField(default=0, verbose_name='bytes')),
                ('after_key', models.CharField(blank=True, max_length=64)),
                ('parts', models.JSONField(default=list)),
                ('sha256', models.CharField(blank=True, max_length=64, verbose_name='SHA-256')),
                ('last_error', models.CharField(blank=True, max_length=300, verbose_name='failed because')),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('lease_id', models.UUIDField(null=True)),
                ('lease_until', models.DateTimeField(null=True)),
                ('stepped_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='requested')),
                ('started_at', models.DateTimeField(null=True, verbose_name='started')),
                ('finished_at', models.DateTimeField(null=True, verbose_name='finished')),
                ('expires_at', models.DateTimeField(null=True, verbose_name='file kept until')),
                ('downloads_count', models.PositiveIntegerField(default=0, verbose_name='downloads')),
                ('application', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='exports', to='tenants.application')),
            ],
            options={
                'verbose_name': 'export',
                'verbose_name_plural': 'exports',
            },
        ),
        migrations.CreateModel(
            name='ExportDownload',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('downloaded_by', models.CharField(max_length=200, verbose_name='by')),
                ('downloaded_from', models.GenericIPAddressField(null=True, verbose_name='from')),
                ('downloaded_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='at')),
                ('export', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='downloads', to='analytics.export')),
            ],
            options={
                'verbose_name': 'download',
                'verbose_name_plural': 'downloads',
            },
        ),
        migrations.AddIndex(
            model_name='export',
            index=models.Index(fields=['application', 'id'], name='export_by_application'),
        ),
        migrations.AddIndex(
            model_name='export',
            index=models.Index(condition=models.Q(('state__in', ('waiting', 'running'))), fields=['stepped_at'], name='export_open'),
        ),
        migrations.AddIndex(
            model_name='export',
            index=models.Index(condition=models.Q(('state', 'done')), fields=['expires_at'], name='export_expiring'),
        ),
    ]
