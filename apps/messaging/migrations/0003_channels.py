from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("messaging", "0002_first_partitions"), ("tenants", "0002_channels")]

    operations = []
