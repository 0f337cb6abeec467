import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0003_campaign_throttle"), ("tenants", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="campaignfailure",
            name="application",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="tenants.application",
            ),
        ),
        migrations.RunSQL(
            "UPDATE campaigns_campaignfailure f SET application_id = c.application_id"
            " FROM campaigns_messagecampaign c WHERE c.id = f.campaign_id",
            migrations.RunSQL.noop,
        ),
        migrations.AlterField(
            model_name="campaignfailure",
            name="application",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="tenants.application",
            ),
        ),
        migrations.RemoveConstraint(model_name="campaignfailure", name="one_row_per_failure_reason"),
        migrations.AddConstraint(
            model_name="campaignfailure",
            constraint=models.UniqueConstraint(
                fields=("application", "campaign", "reason"), name="one_row_per_failure_reason"
            ),
        ),
    ]
