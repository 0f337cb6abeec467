from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SubscriptionsConfig(AppConfig):
    name = "apps.subscriptions"
    verbose_name = _("Users and subscriptions")

    def ready(self) -> None:
        from apps.subscriptions.data_requests.copies import DOWNLOAD_KIND as COPY_KIND
        from apps.subscriptions.data_requests.running import forget_requests
        from apps.subscriptions.data_requests.sections import register_sections
        from apps.subscriptions.data_requests.services import open_copy
        from apps.subscriptions.erasure import register_eraser, register_exporter
        from apps.subscriptions.imports.cleaning import forget_erased
        from apps.subscriptions.imports.rejects import DOWNLOAD_KIND
        from apps.subscriptions.imports.services import open_rejects
        from apps.subscriptions.preferences.keeping import export_choices, forget_choices
        from automata_signal.downloads import register_download

        register_eraser(forget_erased)
        register_eraser(forget_choices)
        register_eraser(forget_requests)
        register_exporter("choices", export_choices)
        register_sections()
        register_download(COPY_KIND, open_copy)
        register_download(DOWNLOAD_KIND, open_rejects)
