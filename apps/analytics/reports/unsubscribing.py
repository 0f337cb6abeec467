"""The page that a report's letter leads to who does not want it any more. The link needs no sign-in."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from apps.analytics.reports.services import unsubscribe
from automata_signal.errors import NotFound

TOKEN_MAX = 500


@csrf_exempt  # mail programs post by themselves (RFC 8058); the token is what allows it
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe_page(request: HttpRequest) -> HttpResponse:
    """GET asks, since programs that look at links follow them; POST does it. 404 for a link that is not ours."""
    token = request.GET.get("token", "")[:TOKEN_MAX]
    problem = ""
    if request.method == "POST":
        try:
            unsubscribe(token)
        except NotFound as error:
            problem = error.message
    page = render(
        request,
        "analytics/unsubscribe.html",
        {"is_done": request.method == "POST" and not problem, "problem": problem},
        status=404 if problem else 200,
    )
    page["Referrer-Policy"] = "no-referrer"
    page["Cache-Control"] = "no-store"
    return page
