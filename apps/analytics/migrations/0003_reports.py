import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
import simple_history.models
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0002_exports'),
        ('tenants', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='HistoricalReportSchedule',
            fields=[
                ('id', models.UUIDField(db_index=True, default=uuid_utils.compat.uuid7, editable=False)),
                ('kind', models.CharField(choices=[('daily', 'Daily: the day before'), ('weekly', 'Weekly: the seven days before')], max_length=8, verbose_name='report')),
                ('hour', models.PositiveSmallIntegerField(default=9, verbose_name='hour')),
                ('weekday', models.PositiveSmallIntegerField(choices=[(0, 'Monday'), (1, 'Tuesday'), (2, 'Wednesday'), (3, 'Thursday'), (4, 'Friday'), (5, 'Saturday'), (6, 'Sunday')], default=0, verbose_name='weekday')),
                ('roles', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('owner', 'Owner'), ('manager', 'Manager'), ('marketer', 'Marketer'), ('analyst', 'Analyst'), ('support', 'Support')], max_length=16), default=list, size=None, verbose_name='to everybody who is')),
                ('members', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), blank=True, default=list, size=None, verbose_name='to members')),
                ('opted_out', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), blank=True, default=list, editable=False, size=None, verbose_name='unsubscribed')),
                ('language', models.CharField(choices=[('en', 'English'), ('ko', '한국어')], default='en', max_length=8, verbose_name='language')),
                ('is_active', models.BooleanField(default=True, verbose_name='active')),
                ('created_by', models.CharField(blank=True, editable=False, max_length=200, verbose_name='by')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='created')),
                ('history_id', models.AutoField(primary_key=True, serialize=False)),
                ('history_date', models.DateTimeField(db_index=True)),
                ('history_change_reason', models.CharField(max_length=100, null=True)),
                ('history_type', models.CharField(choices=[('+', 'Created'), ('~', 'Changed'), ('-', 'Deleted')], max_length=1)),
                ('application', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='tenants.application')),
                ('history_user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'historical scheduled report',
                'verbose_name_plural': 'historical scheduled reports',
                'ordering': ('-history_date', '-history_id'),
                'get_latest_by': ('history_date', 'history_id'),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name='ReportSchedule',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('daily', 'Daily: the day before'), ('weekly', 'Weekly: the seven days before')], max_length=8, verbose_name='report')),
                ('hour', models.PositiveSmallIntegerField(default=9, verbose_name='hour')),
                ('weekday', models.PositiveSmallIntegerField(choices=[(0, 'Monday'), (1, 'Tuesday'), (2, 'Wednesday'), (3, 'Thursday'), (4, 'Friday'), (5, 'Saturday'), (6, 'Sunday')], default=0, verbose_name='weekday')),
                ('roles', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('owner', 'Owner'), ('manager', 'Manager'), ('marketer', 'Marketer'), ('analyst', 'Analyst'), ('support', 'Support')], max_length=16), default=list, size=None, verbose_name='to everybody who is')),
                ('members', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), blank=True, default=list, size=None, verbose_name='to members')),
                ('opted_out', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), blank=True, default=list, editable=False, size=None, verbose_name='unsubscribed')),
                ('language', models.CharField(choices=[('en', 'English'), ('ko', '한국어')], default='en', max_length=8, verbose_name='language')),
                ('is_active', models.BooleanField(default=True, verbose_name='active')),
                ('next_at', models.DateTimeField(editable=False, verbose_name='next')),
                ('last_period', models.DateField(editable=False, null=True, verbose_name='last sent, of')),
                ('created_by', models.CharField(blank=True, editable=False, max_length=200, verbose_name='by')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='created')),
                ('updated_at', models.DateTimeField(auto_now=True, verbose_name='changed')),
                ('application', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='report_schedules', to='tenants.application')),
            ],
            options={
                'verbose_name': 'scheduled report',
                'verbose_name_plural': 'scheduled reports',
            },
        ),
        migrations.CreateModel(
            name='ReportRun',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('period_start', models.DateField(verbose_name='from')),
                ('period_end', models.DateField(verbose_name='to')),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('sent', 'Sent'), ('failed', 'Failed')], default='waiting', max_length=8, verbose_name='state')),
                ('attempts', models.PositiveSmallIntegerField(default=0, verbose_name='attempts')),
                ('error', models.CharField(blank=True, max_length=500, verbose_name='last error')),
                ('delivered_to', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), default=list, size=None, verbose_name='delivered to')),
                ('refused', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), default=list, size=None, verbose_name='refused')),
                ('due_at', models.DateTimeField(default=django.utils.timezone.now, null=True, verbose_name='next attempt')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='created')),
                ('finished_at', models.DateTimeField(null=True, verbose_name='finished')),
                ('application', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.application')),
                ('schedule', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='analytics.reportschedule')),
            ],
            options={
                'verbose_name': 'report sent',
                'verbose_name_plural': 'reports sent',
            },
        ),
        migrations.AddIndex(
            model_name='reportschedule',
            index=models.Index(fields=['application', 'id'], name='report_by_application'),
        ),
        migrations.AddIndex(
            model_name='reportschedule',
            index=models.Index(condition=models.Q(('is_active', True)), fields=['next_at'], name='report_due'),
        ),
        migrations.AddConstraint(
            model_name='reportschedule',
            constraint=models.CheckConstraint(condition=models.Q(('hour__lte', 23)), name='report_hour_of_a_day'),
        ),
        migrations.AddConstraint(
            model_name='reportschedule',
            constraint=models.CheckConstraint(condition=models.Q(('weekday__lte', 6)), name='report_weekday_of_a_week'),
        ),
        migrations.AddIndex(
            model_name='reportrun',
            index=models.Index(fields=['application', 'id'], name='report_run_by_application'),
        ),
        migrations.AddIndex(
            model_name='reportrun',
            index=models.Index(condition=models.Q(('due_at__isnull', False)), fields=['due_at'], name='report_run_due'),
        ),
        migrations.AddConstraint(
            model_name='reportrun',
            constraint=models.UniqueConstraint(fields=('schedule', 'period_start'), name='one_report_per_period'),
        ),
    ]
