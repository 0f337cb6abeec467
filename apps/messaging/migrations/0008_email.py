from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("messaging", "0007_kakao")]

    operations = []
