from django.db import migrations
from django.db import migrations, models
import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat


class Migration(migrations.Migration):
    dependencies = [
        ("campaigns", "0002_channels"),
    ]

    operations = [
        migrations.AddField(
            model_name='historicalmessagecampaign',
            name='is_audience_chosen',
            field=models.BooleanField(db_default=True, default=True, editable=False),
        ),
        migrations.AddField(
            model_name='messagecampaign',
            name='is_audience_chosen',
            field=models.BooleanField(db_default=True, default=True, editable=False),
        ),
        migrations.CreateModel(
            name='CampaignApproval',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('state', models.CharField(choices=[('asked', 'Waiting for approval'), ('approved', 'Approved'), ('rejected', 'Rejected'), ('withdrawn', 'Withdrawn')], default='asked', max_length=12, verbose_name='state')),
                ('digest', models.CharField(editable=False, max_length=64)),
                ('recipients', models.PositiveBigIntegerField(null=True, verbose_name='recipients')),
                ('asked_by', models.CharField(max_length=200, verbose_name='asked by')),
                ('asked_by_id', models.UUIDField(editable=False, null=True)),
                ('asked_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='asked')),
                ('note', models.CharField(blank=True, max_length=1000, verbose_name='note')),
                ('decided_by', models.CharField(blank=True, max_length=200, verbose_name='decided by')),
                ('decided_by_id', models.UUIDField(editable=False, null=True)),
                ('decided_at', models.DateTimeField(null=True, verbose_name='decided')),
                ('comment', models.CharField(blank=True, max_length=1000, verbose_name='comment')),
                ('tell_due_at', models.DateTimeField(editable=False, null=True)),
                ('tell_attempts', models.PositiveSmallIntegerField(default=0, editable=False)),
                ('told_at', models.DateTimeField(null=True, verbose_name='told')),
                ('application', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.application')),
                ('campaign', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='approvals', to='campaigns.messagecampaign')),
            ],
            options={
                'verbose_name': 'approval',
                'verbose_name_plural': 'approvals',
                'indexes': [models.Index(fields=['application', 'id'], name='approval_by_application'), models.Index(condition=models.Q(('tell_due_at__isnull', False)), fields=['tell_due_at'], name='approval_untold')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('state__in', ('asked', 'approved'))), fields=('campaign',), name='one_current_approval')],
            },
        ),
    ]
