from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class BillingConfig(AppConfig):
    name = "apps.billing"
    verbose_name = _("Billing")

    def ready(self) -> None:
        from apps.billing.entitlements import Rules
        from apps.billing.figures import register_figures
        from apps.billing.plans import add_standard_plans
        from apps.billing.services.plans import plan_set_by_code, plans_to_choose
        from apps.tenants.plan_rules import register_plan_choice, register_plan_rules

        post_migrate.connect(add_standard_plans, sender=self)
        register_plan_rules(Rules())
        register_plan_choice(plans_to_choose, plan_set_by_code)
        register_figures()
