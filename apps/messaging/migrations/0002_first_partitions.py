from django.db import migrations

from apps.messaging.partitions import make_partitions


def make_first_partitions(apps, schema_editor):
    make_partitions()


class Migration(migrations.Migration):
    dependencies = [("messaging", "0001_initial")]

    operations = [migrations.RunPython(make_first_partitions, migrations.RunPython.noop)]
