from django.apps import AppConfig


class SubscriptionsConfig(AppConfig):
    name = "apps.subscriptions"
    verbose_name = "Users and subscriptions"

    def ready(self) -> None:
        from apps.subscriptions.erasure import register_eraser, register_exporter
        from apps.subscriptions.imports.cleaning import forget_erased
        from apps.subscriptions.imports.rejects import DOWNLOAD_KIND
        from apps.subscriptions.imports.services import open_rejects
        from apps.subscriptions.preferences.keeping import export_choices, forget_choices
        from automata_signal.downloads import register_download

        register_eraser(forget_erased)
        register_eraser(forget_choices)
        register_exporter("choices", export_choices)
        register_download(DOWNLOAD_KIND, open_rejects)
