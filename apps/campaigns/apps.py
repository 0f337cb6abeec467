from django.apps import AppConfig


class CampaignsConfig(AppConfig):
    name = "apps.campaigns"
    verbose_name = "Campaigns"

    def ready(self) -> None:
        from apps.campaigns.recorder import record_campaign_counts
        from apps.messaging.recorders import register

        register(record_campaign_counts)
