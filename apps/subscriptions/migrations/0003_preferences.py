"""Categories, preferences, consents with their history, the suppression list, double opt-in, and what courtesy counts."""

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.comparison
import django.utils.timezone
import uuid_utils.compat
from django.db import migrations, models

# A consent has to be proved by whoever sends: what was written down of it is there for good.
APPEND_ONLY = """
CREATE FUNCTION consent_event_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'consent events are written, never changed and never deleted';
END $$;
CREATE TRIGGER consent_event_stays BEFORE UPDATE OR DELETE ON subscriptions_consentevent
  FOR EACH ROW EXECUTE FUNCTION consent_event_stays();
"""
# How many messages a subject was sent on a day, for what has a frequency cap (`messaging.courtesy.caps`): no model, as
# it is written for a whole slice at once. Updates stay HOT.
SEND_COUNTS = """
CREATE TABLE subscriptions_sendcount (
  application_id uuid NOT NULL,
  subject_id uuid NOT NULL,
  key varchar(64) NOT NULL,
  day date NOT NULL,
  messages integer NOT NULL,
  PRIMARY KEY (application_id, subject_id, key, day)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX send_count_old ON subscriptions_sendcount USING brin (day);
CREATE TABLE subscriptions_readingposition (name varchar(40) PRIMARY KEY, position bigint NOT NULL);
"""


class Migration(migrations.Migration):

    dependencies = [
        ('subscriptions', '0002_imports'),
        ('tenants', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='MessageCategory',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('slug', models.CharField(max_length=50, verbose_name='slug')),
                ('name_en', models.CharField(max_length=100, verbose_name='name (English)')),
                ('name_ko', models.CharField(blank=True, max_length=100, verbose_name='name (Korean)')),
                ('description_en', models.CharField(blank=True, max_length=300, verbose_name='description (English)')),
                ('description_ko', models.CharField(blank=True, max_length=300, verbose_name='description (Korean)')),
                ('is_marketing', models.BooleanField(default=False, verbose_name='advertising')),
                ('is_default_opted_in', models.BooleanField(default=True, verbose_name='on unless refused')),
                ('may_opt_out', models.BooleanField(default=True, verbose_name='may be refused')),
                ('position', models.PositiveSmallIntegerField(default=0, verbose_name='order')),
                ('is_archived', models.BooleanField(default=False, verbose_name='archived')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='created')),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='changed')),
                ('application', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='categories', to='tenants.application')),
            ],
            options={
                'verbose_name': 'category',
                'verbose_name_plural': 'categories',
            },
        ),
        migrations.CreateModel(
            name='OptIn',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('token_digest', models.BinaryField(max_length=32)),
                ('requested_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='requested')),
                ('expires_at', models.DateTimeField(verbose_name='expires')),
                ('asked_at', models.DateTimeField(null=True, verbose_name='last asked')),
                ('asked_today', models.PositiveSmallIntegerField(default=0, verbose_name='asked within a day')),
                ('counted_from', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('confirmed_at', models.DateTimeField(null=True, verbose_name='confirmed')),
                ('expired_at', models.DateTimeField(null=True, verbose_name='expired')),
                ('application', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.application')),
                ('subscription', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='subscriptions.subscription')),
            ],
            options={
                'verbose_name': 'opt-in',
                'verbose_name_plural': 'opt-ins',
            },
        ),
        migrations.CreateModel(
            name='Preference',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('subject_id', models.GeneratedField(db_persist=True, expression=django.db.models.functions.comparison.Coalesce('user_id', 'subscription_id'), output_field=models.UUIDField())),
                ('channel', models.CharField(choices=[('push', 'Push'), ('email', 'E-mail'), ('sms', 'SMS'), ('kakao_talk', 'Kakao Alimtalk'), ('in_app', 'In-app')], max_length=16, verbose_name='channel')),
                ('is_opted_in', models.BooleanField(verbose_name='opted in')),
                ('source', models.CharField(choices=[('device', 'App (SDK)'), ('api', 'App server'), ('operator', 'Operator'), ('import', 'Import'), ('link', 'Link in a message'), ('page', 'Preference page'), ('provider', 'Provider (STOP, complaint)'), ('system', 'System')], max_length=16, verbose_name='source')),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='changed')),
                ('application', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='tenants.application')),
                ('category', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='subscriptions.messagecategory')),
                ('subscription', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='subscriptions.subscription')),
                ('user', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='subscriptions.appuser')),
            ],
            options={
                'verbose_name': 'preference',
                'verbose_name_plural': 'preferences',
            },
        ),
        migrations.CreateModel(
            name='Suppression',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('type', models.CharField(max_length=16, verbose_name='type')),
                ('address_digest', models.BinaryField(max_length=32)),
                ('masked_address', models.CharField(blank=True, max_length=100, verbose_name='address')),
                ('reason', models.CharField(choices=[('hard_bounce', 'Hard bounce'), ('complaint', 'Complaint'), ('unsubscribed', 'Unsubscribed'), ('manual', 'By an operator'), ('import', 'From a file')], max_length=16, verbose_name='reason')),
                ('source', models.CharField(choices=[('device', 'App (SDK)'), ('api', 'App server'), ('operator', 'Operator'), ('import', 'Import'), ('link', 'Link in a message'), ('page', 'Preference page'), ('provider', 'Provider (STOP, complaint)'), ('system', 'System')], max_length=16, verbose_name='source')),
                ('note', models.CharField(blank=True, max_length=200, verbose_name='note')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='since')),
                ('application', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='tenants.application')),
            ],
            options={
                'verbose_name': 'suppressed address',
                'verbose_name_plural': 'suppression list',
            },
        ),
        migrations.CreateModel(
            name='SuppressionEvent',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('type', models.CharField(max_length=16, verbose_name='type')),
                ('address_digest', models.BinaryField(max_length=32)),
                ('masked_address', models.CharField(blank=True, max_length=100, verbose_name='address')),
                ('is_removal', models.BooleanField(default=False, verbose_name='taken off')),
                ('reason', models.CharField(choices=[('hard_bounce', 'Hard bounce'), ('complaint', 'Complaint'), ('unsubscribed', 'Unsubscribed'), ('manual', 'By an operator'), ('import', 'From a file')], max_length=16, verbose_name='reason')),
                ('source', models.CharField(choices=[('device', 'App (SDK)'), ('api', 'App server'), ('operator', 'Operator'), ('import', 'Import'), ('link', 'Link in a message'), ('page', 'Preference page'), ('provider', 'Provider (STOP, complaint)'), ('system', 'System')], max_length=16, verbose_name='source')),
                ('note', models.CharField(blank=True, max_length=200, verbose_name='note')),
                ('by', models.CharField(blank=True, max_length=200, verbose_name='by')),
                ('occurred_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='at')),
                ('application', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='tenants.application')),
            ],
            options={
                'verbose_name': 'suppression event',
                'verbose_name_plural': 'suppression events',
            },
        ),
        migrations.CreateModel(
            name='ActiveHours',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('subject_id', models.UUIDField()),
                ('hours', django.contrib.postgres.fields.ArrayField(base_field=models.PositiveSmallIntegerField(), size=24)),
                ('best_hour', models.PositiveSmallIntegerField(verbose_name='most active at (UTC)')),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='changed')),
                ('application', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='tenants.application')),
            ],
            options={
                'verbose_name': 'active hours',
                'verbose_name_plural': 'active hours',
                'constraints': [models.UniqueConstraint(fields=('application', 'subject_id'), name='one_active_hours_per_subject')],
            },
        ),
        migrations.CreateModel(
            name='ConsentEvent',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('channel', models.CharField(choices=[('push', 'Push'), ('email', 'E-mail'), ('sms', 'SMS'), ('kakao_talk', 'Kakao Alimtalk'), ('in_app', 'In-app')], max_length=16, verbose_name='channel')),
                ('category', models.CharField(blank=True, max_length=50, verbose_name='category')),
                ('event_type', models.CharField(choices=[('given', 'Consent given'), ('withdrawn', 'Consent withdrawn'), ('night_given', 'Night consent given'), ('night_withdrawn', 'Night consent withdrawn'), ('confirmed', 'Told that the consent stands'), ('opted_in', 'Category chosen'), ('opted_out', 'Category refused'), ('address_confirmed', 'Address confirmed')], max_length=20, verbose_name='event')),
                ('source', models.CharField(choices=[('device', 'App (SDK)'), ('api', 'App server'), ('operator', 'Operator'), ('import', 'Import'), ('link', 'Link in a message'), ('page', 'Preference page'), ('provider', 'Provider (STOP, complaint)'), ('system', 'System')], max_length=16, verbose_name='source')),
                ('evidence', models.CharField(blank=True, max_length=200, verbose_name='text agreed to')),
                ('message_id', models.UUIDField(null=True, verbose_name='message')),
                ('effective_at', models.DateTimeField(verbose_name='counts from')),
                ('occurred_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='written')),
                ('position', models.BigIntegerField(db_default=models.Func(function='event_position', output_field=models.BigIntegerField()), editable=False, verbose_name='position')),
                ('application', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='tenants.application')),
                ('subscription', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='subscriptions.subscription')),
                ('user', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='subscriptions.appuser')),
            ],
            options={
                'verbose_name': 'consent event',
                'verbose_name_plural': 'consent events',
                'indexes': [models.Index(fields=['application', 'id'], name='consent_event_by_app'), models.Index(condition=models.Q(('user__isnull', False)), fields=['user', 'id'], name='consent_event_of_user'), models.Index(condition=models.Q(('subscription__isnull', False)), fields=['subscription', 'id'], name='consent_event_of_sub'), django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['position'], name='consent_event_position')],
            },
        ),
        migrations.CreateModel(
            name='ConsentNotice',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('opt_in', 'Please confirm your address'), ('result', 'Result of a choice'), ('reconfirm', 'Your consent stands')], max_length=16, verbose_name='kind')),
                ('channel', models.CharField(choices=[('push', 'Push'), ('email', 'E-mail'), ('sms', 'SMS'), ('kakao_talk', 'Kakao Alimtalk'), ('in_app', 'In-app')], max_length=16, verbose_name='channel')),
                ('about_id', models.UUIDField(editable=False)),
                ('said_at', models.DateTimeField(verbose_name='said on')),
                ('what', models.CharField(blank=True, max_length=20, verbose_name='about')),
                ('category', models.CharField(blank=True, max_length=50, verbose_name='category')),
                ('due_at', models.DateTimeField(verbose_name='by')),
                ('state', models.CharField(choices=[('due', 'Due'), ('sent', 'Sent'), ('done', 'Done elsewhere'), ('void', 'Not needed any more'), ('failed', 'Failed')], default='due', max_length=8, verbose_name='state')),
                ('is_to_be_sent', models.BooleanField(default=True, verbose_name='by us')),
                ('attempt_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='next attempt')),
                ('attempts', models.PositiveSmallIntegerField(default=0, editable=False, verbose_name='attempts')),
                ('message_id', models.UUIDField(null=True, verbose_name='message')),
                ('note', models.CharField(blank=True, max_length=200, verbose_name='note')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='created')),
                ('finished_at', models.DateTimeField(null=True, verbose_name='finished')),
                ('application', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.application')),
                ('subscription', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='subscriptions.subscription')),
                ('user', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='subscriptions.appuser')),
            ],
            options={
                'verbose_name': 'consent notice',
                'verbose_name_plural': 'consent notices',
                'indexes': [models.Index(fields=['application', 'id'], name='consent_notice_by_app'), models.Index(condition=models.Q(('user__isnull', False)), fields=['user'], name='consent_notice_of_user'), models.Index(condition=models.Q(('is_to_be_sent', True), ('state', 'due')), fields=['attempt_at'], name='consent_notice_due'), models.Index(condition=models.Q(('state', 'due')), fields=['application', 'due_at'], name='consent_notice_open')],
                'constraints': [models.UniqueConstraint(fields=('about_id', 'kind', 'due_at'), name='one_notice_per_reason')],
            },
        ),
        migrations.CreateModel(
            name='MarketingConsent',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('subject_id', models.GeneratedField(db_persist=True, expression=django.db.models.functions.comparison.Coalesce('user_id', 'subscription_id'), output_field=models.UUIDField())),
                ('channel', models.CharField(choices=[('push', 'Push'), ('email', 'E-mail'), ('sms', 'SMS'), ('kakao_talk', 'Kakao Alimtalk'), ('in_app', 'In-app')], max_length=16, verbose_name='channel')),
                ('is_given', models.BooleanField(default=False, verbose_name='given')),
                ('given_at', models.DateTimeField(null=True, verbose_name='given at')),
                ('withdrawn_at', models.DateTimeField(null=True, verbose_name='withdrawn at')),
                ('source', models.CharField(choices=[('device', 'App (SDK)'), ('api', 'App server'), ('operator', 'Operator'), ('import', 'Import'), ('link', 'Link in a message'), ('page', 'Preference page'), ('provider', 'Provider (STOP, complaint)'), ('system', 'System')], max_length=16, verbose_name='source')),
                ('evidence', models.CharField(blank=True, max_length=200, verbose_name='text agreed to')),
                ('is_night_given', models.BooleanField(default=False, verbose_name='at night')),
                ('night_given_at', models.DateTimeField(null=True, verbose_name='given at (night)')),
                ('night_withdrawn_at', models.DateTimeField(null=True, verbose_name='withdrawn at (night)')),
                ('night_evidence', models.CharField(blank=True, max_length=200, verbose_name='text agreed to (night)')),
                ('confirmed_at', models.DateTimeField(null=True, verbose_name='last confirmed')),
                ('confirm_due_at', models.DateTimeField(null=True, verbose_name='to be confirmed by')),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='changed')),
                ('application', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='tenants.application')),
                ('subscription', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='subscriptions.subscription')),
                ('user', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='subscriptions.appuser')),
            ],
            options={
                'verbose_name': 'consent',
                'verbose_name_plural': 'consents',
                'indexes': [models.Index(fields=['application', 'id'], name='consent_by_application'), models.Index(condition=models.Q(('confirm_due_at__isnull', False)), fields=['confirm_due_at'], name='consent_due')],
                'constraints': [models.UniqueConstraint(fields=('application', 'subject_id', 'channel'), name='one_consent_per_subject')],
            },
        ),
        migrations.AddConstraint(
            model_name='messagecategory',
            constraint=models.UniqueConstraint(fields=('application', 'slug'), name='one_category_per_slug'),
        ),
        migrations.AddIndex(
            model_name='optin',
            index=models.Index(condition=models.Q(('confirmed_at', None), ('expired_at', None)), fields=['expires_at'], name='opt_in_open'),
        ),
        migrations.AddConstraint(
            model_name='optin',
            constraint=models.UniqueConstraint(fields=('subscription',), name='one_opt_in_per_subscription'),
        ),
        migrations.AddConstraint(
            model_name='preference',
            constraint=models.UniqueConstraint(fields=('application', 'subject_id', 'channel', 'category'), name='one_preference_per_subject'),
        ),
        migrations.AddIndex(
            model_name='suppression',
            index=models.Index(fields=['application', 'id'], name='suppression_by_application'),
        ),
        migrations.AddConstraint(
            model_name='suppression',
            constraint=models.UniqueConstraint(fields=('application', 'type', 'address_digest'), name='one_suppression_per_address'),
        ),
        migrations.AddIndex(
            model_name='suppressionevent',
            index=models.Index(fields=['application', 'id'], name='suppression_event_by_app'),
        ),
        migrations.AddIndex(
            model_name='suppressionevent',
            index=models.Index(fields=['application', 'address_digest'], name='suppression_event_of'),
        ),
        migrations.CreateModel(
            name='SendTiming',
            fields=[
                ('campaign_id', models.UUIDField(primary_key=True, serialize=False)),
                ('local_time', models.TimeField(null=True, verbose_name='local time')),
                ('at_active_hours', models.BooleanField(default=False, verbose_name='when usually active')),
                ('application', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.application')),
            ],
            options={
                'verbose_name': 'send timing',
                'verbose_name_plural': 'send timings',
                'indexes': [models.Index(fields=['application', 'campaign_id'], name='send_timing_by_app')],
            },
        ),
        migrations.RunSQL(APPEND_ONLY, "DROP FUNCTION consent_event_stays() CASCADE"),
        migrations.RunSQL(SEND_COUNTS, "DROP TABLE subscriptions_sendcount, subscriptions_readingposition"),
    ]
