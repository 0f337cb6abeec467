from django.apps import AppConfig, apps
from django.utils.translation import gettext_lazy


class TenantsConfig(AppConfig):
    name = "apps.tenants"
    verbose_name = gettext_lazy("Applications and operators")

    def ready(self) -> None:
        from apps.tenants import openapi  # noqa: F401, registers itself
        from apps.tenants.accounts import signals  # noqa: F401, listens

        apps.get_app_config("axes").verbose_name = gettext_lazy("Signing in")
