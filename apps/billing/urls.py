from django.urls import path

from apps.billing import api

urlpatterns = [
    path("billing/plan", api.PlanView.as_view()),
    path("billing/quotas", api.QuotasView.as_view()),
    path("billing/quotas/<slug:channel_type>", api.QuotaView.as_view()),
    path("billing/ledger", api.LedgerView.as_view()),
    path("billing/top-ups", api.TopUpsView.as_view()),
    path("billing/adjustments", api.AdjustmentsView.as_view()),
    path("billing/refunds", api.RefundsView.as_view()),
    path("billing/statements/<str:month>", api.StatementView.as_view()),
    path("billing/alerts", api.AlertsView.as_view()),
    path("billing/alert-settings", api.AlertSettingsView.as_view()),
]
