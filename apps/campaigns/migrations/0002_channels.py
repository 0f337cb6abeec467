from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0001_initial"), ("messaging", "0008_chains")]

    operations = [
        migrations.AddField(
            model_name='historicalmessagecampaign',
            name='chain',
            field=models.JSONField(blank=True, db_default=models.Value({}, models.JSONField()), default=dict, verbose_name='chain'),
        ),
        migrations.AddField(
            model_name='messagecampaign',
            name='chain',
            field=models.JSONField(blank=True, db_default=models.Value({}, models.JSONField()), default=dict, verbose_name='chain'),
        ),
        migrations.AddField(
            model_name='historicalmessagecampaign',
            name='category',
            field=models.CharField(blank=True, db_default='', default='', max_length=50, verbose_name='category'),
        ),
        migrations.AddField(
            model_name='historicalmessagecampaign',
            name='purpose',
            field=models.CharField(choices=[('transactional', 'Transactional'), ('marketing', 'Marketing')], db_default='transactional', default='transactional', max_length=16, verbose_name='purpose'),
        ),
        migrations.AddField(
            model_name='messagecampaign',
            name='category',
            field=models.CharField(blank=True, db_default='', default='', max_length=50, verbose_name='category'),
        ),
        migrations.AddField(
            model_name='messagecampaign',
            name='purpose',
            field=models.CharField(choices=[('transactional', 'Transactional'), ('marketing', 'Marketing')], db_default='transactional', default='transactional', max_length=16, verbose_name='purpose'),
        ),
    ]
