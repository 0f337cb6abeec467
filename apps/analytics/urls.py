from django.urls import path

from apps.analytics.api import reports, sdk, statistics
from apps.analytics.exports import urls as exports

urlpatterns = [
    path("statistics/overview", statistics.OverviewView.as_view()),
    path("statistics/series", statistics.SeriesView.as_view()),
    path("statistics/breakdown", statistics.BreakdownView.as_view()),
    path("statistics/distribution", statistics.DistributionView.as_view()),
    path("statistics/campaigns", statistics.CampaignsView.as_view()),
    path("statistics/templates", statistics.TemplatesView.as_view()),
    path("statistics/subscriptions", statistics.SubscriptionChangesView.as_view()),
    path("statistics/active-users", statistics.ActiveUsersView.as_view()),
    path("statistics/costs", statistics.CostsView.as_view()),
    path("statistics/sdk", statistics.SdkView.as_view()),
    path("sdk/figures", sdk.SdkFiguresView.as_view()),
    path("reports", reports.ReportsView.as_view()),
    path("reports/<uuid:report_id>", reports.ReportView.as_view()),
    path("reports/<uuid:report_id>/runs", reports.ReportRunsView.as_view()),
    path("reports/<uuid:report_id>/preview", reports.ReportPreviewView.as_view()),
    path("reports/<uuid:report_id>/send", reports.ReportSendView.as_view()),
    *exports.urlpatterns,
]
