"""Every address: the API under `/api/v1/`, its description, and the console."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from apps.analytics.reports import unsubscribing
from apps.messaging.email import opening
from apps.messaging.media.views import media_file
from apps.messaging.receipts import hooks
from apps.subscriptions.preferences.pages import views as link_pages
from automata_signal import api, downloads


def home(request: HttpRequest) -> HttpResponse:
    return redirect("admin:index")


urlpatterns = [
    path("", home),
    path("admin/", admin.site.urls),
    path(downloads.PATH, downloads.download),
    path("m/<str:token>/<str:name>", media_file),
    path("webhooks/<slug:provider>/<uuid:credential_id>", hooks.hook, name="provider_hook"),
    path("e/unsubscribe/<str:token>", link_pages.unsubscribe_page),
    path("e/preferences/<str:token>", link_pages.preferences_page),
    path("e/confirm/<str:token>", link_pages.confirm_page),
    path("e/c/<str:token>", opening.follow_link),
    path("e/o/<str:token>.gif", opening.show_pixel),
    path("reports/unsubscribe", unsubscribing.unsubscribe_page),
    path("account/", include("apps.tenants.accounts.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("api/v1/", include("apps.messaging.urls")),  # the busiest first: each address is tried in this order
    path("api/v1/", include("apps.subscriptions.urls")),
    path("api/v1/", include("apps.tenants.urls")),
    path("api/v1/", include("apps.campaigns.urls")),
    path("api/v1/", include("apps.billing.urls")),
    path("api/v1/", include("apps.analytics.urls")),
    re_path(r"^api/", api.not_found),
]

handler400 = "automata_signal.api.bad_request"
handler500 = "automata_signal.api.server_error"
