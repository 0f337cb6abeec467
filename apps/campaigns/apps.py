from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class CampaignsConfig(AppConfig):
    name = "apps.campaigns"
    verbose_name = _("Campaigns")

    def ready(self) -> None:
        from apps.analytics.exports.registry import register_resource
        from apps.analytics.names import register_campaign_names
        from apps.billing.checking import register_count
        from apps.campaigns.approvals.digest import register_part
        from apps.campaigns.experiments.planning import digest_of, plan_copy
        from apps.campaigns.exports import CampaignsExport
        from apps.campaigns.figures import register_figures
        from apps.campaigns.media import used_by_campaigns
        from apps.campaigns.recorder import record_campaign_counts
        from apps.campaigns.selectors import campaign_names, reserved_messages
        from apps.campaigns.services.duplicate import register_copier
        from apps.messaging.media.uses import register_media_user
        from apps.messaging.recorders import register

        register(record_campaign_counts)
        register_count(reserved_messages)
        register_figures()
        register_media_user(used_by_campaigns)
        register_campaign_names(campaign_names)
        register_resource(CampaignsExport)
        register_part("experiment", digest_of)
        register_copier(plan_copy)
