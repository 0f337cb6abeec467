from django.apps import AppConfig


class SubscriptionsConfig(AppConfig):
    name = "apps.subscriptions"
    verbose_name = "Users and subscriptions"

    def ready(self) -> None:
        from apps.subscriptions.erasure import register_eraser
        from apps.subscriptions.imports.cleaning import forget_erased
        from apps.subscriptions.imports.rejects import DOWNLOAD_KIND
        from apps.subscriptions.imports.services import open_rejects
        from automata_signal.downloads import register_download

        register_eraser(forget_erased)
        register_download(DOWNLOAD_KIND, open_rejects)
