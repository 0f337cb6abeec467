from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "apps.tenants"
    verbose_name = "Applications and operators"

    def ready(self) -> None:
        from apps.tenants import openapi  # noqa: F401, registers itself
        from apps.tenants.accounts import signals  # noqa: F401, listens
