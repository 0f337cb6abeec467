import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("messaging", "0007_kakao")]

    operations = [
        migrations.AddField(
            model_name='dispatch',
            name='reaches_pending',
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.CreateModel(
            name='FollowUp',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('dispatch_id', models.UUIDField(verbose_name='step')),
                ('user_id', models.UUIDField(verbose_name='user')),
                ('after_message_id', models.UUIDField(null=True, verbose_name='after')),
                ('because', models.CharField(max_length=100, verbose_name='because of')),
                ('messages', models.PositiveSmallIntegerField(default=0, verbose_name='messages')),
                ('problem', models.CharField(blank=True, max_length=100, verbose_name='problem')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='at')),
            ],
            options={
                'verbose_name': 'follow-up',
                'verbose_name_plural': 'follow-ups',
            },
        ),
        migrations.AddField(
            model_name='dispatch',
            name='chain_id',
            field=models.UUIDField(editable=False, null=True, verbose_name='chain'),
        ),
        migrations.AddField(
            model_name='dispatch',
            name='chain_step',
            field=models.PositiveSmallIntegerField(db_default=0, default=0, editable=False, verbose_name='step'),
        ),
        migrations.AddField(
            model_name='dispatch',
            name='follow_on',
            field=models.CharField(blank=True, choices=[('no_receipt', 'Without a receipt in time, or a failure'), ('failure', 'A failure')], db_default='', default='', editable=False, max_length=16, verbose_name='the next step follows'),
        ),
        migrations.AddField(
            model_name='dispatch',
            name='follow_until',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=16, verbose_name='until it is'),
        ),
        migrations.AddField(
            model_name='dispatch',
            name='wait_s',
            field=models.PositiveIntegerField(editable=False, null=True, verbose_name='waits for a receipt (s)'),
        ),
        migrations.AddField(
            model_name='dispatchbatch',
            name='follow_up_at',
            field=models.DateTimeField(editable=False, null=True, verbose_name='followed up'),
        ),
        migrations.AddIndex(
            model_name='dispatch',
            index=models.Index(condition=models.Q(('chain_id__isnull', False)), fields=['chain_id'], name='dispatch_by_chain'),
        ),
        migrations.AddIndex(
            model_name='dispatchbatch',
            index=models.Index(condition=models.Q(('follow_up_at__isnull', False)), fields=['follow_up_at'], name='batch_follow_up'),
        ),
        migrations.AddField(
            model_name='followup',
            name='application',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.application'),
        ),
        migrations.AddIndex(
            model_name='followup',
            index=models.Index(fields=['application', 'id'], name='follow_up_by_application'),
        ),
        migrations.AddConstraint(
            model_name='followup',
            constraint=models.UniqueConstraint(fields=('dispatch_id', 'user_id'), name='one_follow_up_per_user'),
        ),
    ]
