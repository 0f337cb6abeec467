from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AnalyticsConfig(AppConfig):
    name = "apps.analytics"
    verbose_name = _("Analytics")

    def ready(self) -> None:
        from apps.analytics.exports.figures import LedgerExport, StatisticsExport
        from apps.analytics.exports.registry import register_resource
        from apps.analytics.exports.resources import (
            MessageEventsExport,
            MessagesExport,
            SubscriptionEventsExport,
            SubscriptionsExport,
            UsersExport,
        )
        from apps.analytics.figures import register_figures

        register_figures()
        for resource in (
            MessagesExport,
            MessageEventsExport,
            SubscriptionsExport,
            SubscriptionEventsExport,
            UsersExport,
            StatisticsExport,
            LedgerExport,
        ):
            register_resource(resource)
