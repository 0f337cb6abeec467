from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]

    operations = [
        migrations.AlterField(
            model_name='channelcredential',
            name='provider',
            field=models.CharField(choices=[('apns', 'APNs'), ('fcm', 'FCM'), ('smtp', 'SMTP'), ('anymail', 'E-mail provider (API)'), ('solapi', 'Solapi (SMS)'), ('twilio', 'Twilio (SMS)'), ('nhn_sms', 'NHN Cloud (SMS)'), ('solapi_kakao', 'Solapi (Alimtalk)'), ('nhn_kakao', 'NHN Cloud (Alimtalk)'), ('in_app', 'In-app')], max_length=16, verbose_name='provider'),
        ),
        migrations.AlterField(
            model_name='historicalchannelcredential',
            name='provider',
            field=models.CharField(choices=[('apns', 'APNs'), ('fcm', 'FCM'), ('smtp', 'SMTP'), ('anymail', 'E-mail provider (API)'), ('solapi', 'Solapi (SMS)'), ('twilio', 'Twilio (SMS)'), ('nhn_sms', 'NHN Cloud (SMS)'), ('solapi_kakao', 'Solapi (Alimtalk)'), ('nhn_kakao', 'NHN Cloud (Alimtalk)'), ('in_app', 'In-app')], max_length=16, verbose_name='provider'),
        ),
    ]
