from django.db import migrations
from django.db import migrations, models
import apps.subscriptions.data_requests.models
import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat


class Migration(migrations.Migration):
    dependencies = [
        ("subscriptions", "0004_strikes"),
    ]

    operations = [
        migrations.CreateModel(
            name='DataRequest',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('order_id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, verbose_name='order')),
                ('kind', models.CharField(choices=[('export', 'Copy of all data'), ('erase', 'Erasure')], max_length=8, verbose_name='request')),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('running', 'Running'), ('done', 'Done'), ('failed', 'Failed'), ('canceled', 'Canceled')], default='waiting', max_length=8, verbose_name='state')),
                ('requested_by', models.CharField(max_length=200, verbose_name='entered by')),
                ('requested_from', models.GenericIPAddressField(null=True, verbose_name='from')),
                ('reference', models.CharField(blank=True, max_length=100, verbose_name='reference')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='entered')),
                ('due_at', models.DateTimeField(default=apps.subscriptions.data_requests.models._due, verbose_name='due')),
                ('section', models.PositiveSmallIntegerField(default=0, editable=False)),
                ('after_key', models.CharField(blank=True, editable=False, max_length=64)),
                ('sections', models.PositiveSmallIntegerField(default=0, editable=False)),
                ('result', models.JSONField(blank=True, default=dict, verbose_name='result')),
                ('parts', models.JSONField(default=list, editable=False)),
                ('failures', models.PositiveSmallIntegerField(default=0, editable=False)),
                ('last_error', models.CharField(blank=True, max_length=300, verbose_name='failed because')),
                ('ended_by', models.CharField(blank=True, max_length=200, verbose_name='canceled by')),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='last step')),
                ('started_at', models.DateTimeField(editable=False, null=True, verbose_name='started')),
                ('finished_at', models.DateTimeField(editable=False, null=True, verbose_name='finished')),
                ('expires_at', models.DateTimeField(editable=False, null=True, verbose_name='file kept until')),
                ('downloads_count', models.PositiveIntegerField(default=0, editable=False, verbose_name='downloads')),
            ],
            options={
                'verbose_name': 'data request',
                'verbose_name_plural': 'data requests',
            },
        ),
        migrations.AddField(
            model_name='appuser',
            name='is_test',
            field=models.BooleanField(db_default=False, default=False, verbose_name='in the test group'),
        ),
        migrations.AddIndex(
            model_name='appuser',
            index=models.Index(condition=models.Q(('is_test', True)), fields=['application', 'id'], name='user_test_group'),
        ),
        migrations.AddIndex(
            model_name='appuser',
            index=models.Index(fields=['application', 'external_id'], name='user_by_prefix', opclasses=('uuid_ops', 'varchar_pattern_ops')),
        ),
        migrations.AddField(
            model_name='datarequest',
            name='application',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='data_requests', to='tenants.application'),
        ),
        migrations.AddField(
            model_name='datarequest',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='data_requests', to='subscriptions.appuser'),
        ),
        migrations.AddIndex(
            model_name='datarequest',
            index=models.Index(fields=['application', 'id'], name='data_request_by_app'),
        ),
        migrations.AddIndex(
            model_name='datarequest',
            index=models.Index(fields=['order_id'], name='data_request_by_order'),
        ),
        migrations.AddIndex(
            model_name='datarequest',
            index=models.Index(condition=models.Q(('state__in', ('waiting', 'running'))), fields=['updated_at'], name='data_request_working'),
        ),
        migrations.AddIndex(
            model_name='datarequest',
            index=models.Index(condition=models.Q(('expires_at__isnull', False)), fields=['expires_at'], name='data_request_files'),
        ),
        migrations.AddConstraint(
            model_name='datarequest',
            constraint=models.UniqueConstraint(condition=models.Q(('state__in', ('waiting', 'running'))), fields=('user', 'kind'), name='one_open_data_request'),
        ),
        migrations.AlterField(
            model_name='import',
            name='state',
            field=models.CharField(choices=[('mapping', 'Columns to be confirmed'), ('waiting', 'Waiting'), ('checking', 'Being checked'), ('checked', 'Checked'), ('running', 'Being applied'), ('done', 'Done'), ('failed', 'Failed'), ('canceled', 'Canceled')], default='waiting', max_length=10, verbose_name='state'),
        ),
    ]
