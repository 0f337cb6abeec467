from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0001_initial"), ("messaging", "0009_chains")]

    operations = []
