"""Imports of users and subscriptions from files."""

import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.db import migrations, models

# Which line of a file had a row first (`imports.duplicates`). Rows come and go by the million within a day: no model, no
# foreign keys, and VACUUM is not to wait for a fifth of the largest import ever.
KEYS = """
CREATE TABLE subscriptions_importkey (
  application_id uuid NOT NULL,
  import_id uuid NOT NULL,
  key uuid NOT NULL,
  line integer NOT NULL,
  PRIMARY KEY (application_id, import_id, key)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE INDEX import_key_erased ON subscriptions_importkey (import_id) WHERE line = 0
"""


class Migration(migrations.Migration):

    dependencies = [
        ('subscriptions', '0001_initial'),
        ('tenants', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Import',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('users', 'Users'), ('subscriptions', 'Subscriptions')], max_length=16, verbose_name='of')),
                ('mode', models.CharField(choices=[('dry_run', 'Check only'), ('apply', 'Check, then apply')], default='dry_run', max_length=8, verbose_name='mode')),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('checking', 'Being checked'), ('checked', 'Checked'), ('running', 'Being applied'), ('done', 'Done'), ('failed', 'Failed'), ('canceled', 'Canceled')], default='waiting', max_length=10, verbose_name='state')),
                ('file_name', models.CharField(max_length=200, verbose_name='file')),
                ('stored_as', models.CharField(blank=True, editable=False, max_length=200)),
                ('file_bytes', models.BigIntegerField(verbose_name='bytes')),
                ('sha256', models.CharField(max_length=64, verbose_name='SHA-256')),
                ('encoding', models.CharField(max_length=10, verbose_name='encoding')),
                ('delimiter', models.CharField(max_length=1, verbose_name='delimiter')),
                ('header', models.JSONField(verbose_name='columns')),
                ('mapping', models.JSONField(default=dict, verbose_name='mapping')),
                ('default_type', models.CharField(blank=True, max_length=16, verbose_name='type of all')),
                ('on_conflict', models.CharField(choices=[('update', 'Update it'), ('skip', 'Leave it as it is')], default='update', max_length=6, verbose_name='what there is already')),
                ('clear_empty', models.BooleanField(default=False, verbose_name='an empty cell clears')),
                ('resubscribe', models.BooleanField(default=False, verbose_name='subscribe those who had ended')),
                ('first_offset', models.BigIntegerField(default=0, editable=False)),
                ('first_line', models.PositiveIntegerField(default=2, editable=False)),
                ('byte_offset', models.BigIntegerField(default=0, editable=False, verbose_name='read')),
                ('line', models.PositiveIntegerField(default=2, editable=False, verbose_name='line')),
                ('total_rows', models.PositiveIntegerField(default=0, verbose_name='rows')),
                ('created_rows', models.PositiveIntegerField(default=0, verbose_name='created')),
                ('updated_rows', models.PositiveIntegerField(default=0, verbose_name='updated')),
                ('unchanged_rows', models.PositiveIntegerField(default=0, verbose_name='unchanged')),
                ('skipped_rows', models.PositiveIntegerField(default=0, verbose_name='skipped')),
                ('rejected_rows', models.PositiveIntegerField(default=0, verbose_name='rejected')),
                ('kept_rows', models.PositiveIntegerField(default=0, verbose_name='not subscribed again')),
                ('check_counts', models.JSONField(editable=False, null=True, verbose_name='what the check counted')),
                ('reject_parts', models.JSONField(default=list, editable=False)),
                ('failures', models.PositiveSmallIntegerField(default=0, editable=False)),
                ('last_error', models.TextField(blank=True, verbose_name='last error')),
                ('requested_by', models.CharField(max_length=200, verbose_name='uploaded by')),
                ('applied_by', models.CharField(blank=True, max_length=200, verbose_name='applied by')),
                ('ended_by', models.CharField(blank=True, max_length=200, verbose_name='canceled by')),
                ('ip', models.CharField(blank=True, max_length=45, verbose_name='from')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='uploaded')),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='last step')),
                ('checked_at', models.DateTimeField(editable=False, null=True, verbose_name='checked')),
                ('applied_at', models.DateTimeField(editable=False, null=True, verbose_name='begun')),
                ('finished_at', models.DateTimeField(editable=False, null=True, verbose_name='finished')),
                ('deleted_at', models.DateTimeField(editable=False, null=True, verbose_name='file deleted')),
                ('application', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='imports', to='tenants.application')),
            ],
            options={
                'verbose_name': 'import',
                'verbose_name_plural': 'imports',
                'indexes': [models.Index(fields=['application', 'id'], name='import_by_application'), models.Index(condition=models.Q(('state__in', ('waiting', 'checking', 'running'))), fields=['updated_at'], name='import_working'), models.Index(condition=models.Q(('deleted_at', None)), fields=['updated_at'], name='import_with_files')],
            },
        ),
        migrations.RunSQL(KEYS, "DROP TABLE subscriptions_importkey"),
    ]
