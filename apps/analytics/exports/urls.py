from django.urls import path

from apps.analytics.exports import api

urlpatterns = [
    path("exports", api.ExportsView.as_view()),
    path("exports/<uuid:export_id>", api.ExportView.as_view()),
    path("exports/<uuid:export_id>/cancel", api.ExportCancelView.as_view()),
    path("exports/<uuid:export_id>/download", api.ExportDownloadView.as_view()),
]
