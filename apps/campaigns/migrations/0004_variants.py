from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("campaigns", "0003_flow"),
        ("messaging", "0011_variants"),
    ]

    operations = []
