"""What links in e-mails lead to: `/e/o/…` is a picture of one pixel, `/e/c/…` goes on to the address in its token.

The token is what is trusted: there are no cookies, nothing is refused that we signed, and it goes nowhere that we did
not send. A program that looks at links (HEAD, prefetch, a scanner of mail) is sent on and not counted. Recording never
keeps anybody from the page: what cannot be recorded is logged.

Apple's Mail Privacy Protection fetches every picture, opened or not: that shows that the message is in the mailbox, and
not that somebody was there.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from uuid import UUID

from django.db import Error as DatabaseLayerError
from django.http import HttpRequest, HttpResponse
from django.utils.encoding import iri_to_uri
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from apps.messaging.adapters.email_tokens import LinkForged, read_click_token, read_open_token
from apps.messaging.models import Message
from apps.messaging.receipts.sdk import Receipt, receipts_apply
from apps.messaging.receipts.together import gathering
from apps.subscriptions.services import subscriptions_forgive
from apps.tenants.access import too_many_guesses
from apps.tenants.models import Application

log = logging.getLogger(__name__)

OPENED, CLICKED = "received", "converted"
PIXEL = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00"
    b"\x01\x00\x00\x02\x02D\x01\x00;"
)
_NOBODY = re.compile(
    r"bot\b|crawl|spider|preview|scan|proofpoint|mimecast|barracuda|safelinks|urldefense|symantec|trend ?micro"
    r"|forcepoint|headless|curl/|wget/|python|go-http-client|okhttp|libwww|facebookexternalhit|yeti/",
    re.IGNORECASE,
)
"""Programs that follow links to look at them."""
_APPLE_PROXY = "Mozilla/5.0"
"""All that Apple's proxy says of itself."""
_PREFETCH = ("prefetch", "preview", "prerender")


@csrf_exempt
@require_http_methods(["GET", "HEAD"])
def follow_link(request: HttpRequest, token: str) -> HttpResponse:
    """302 to where the link leads; 404 for what is none of ours, 429 for who guesses."""
    try:
        link = read_click_token(token)
    except LinkForged:
        refusal = HttpResponse("This is none of our links.", status=404, content_type="text/plain")
        return too_many_guesses(request) or _shown(refusal)
    if _is_somebody(request):
        _record(link.message_id, CLICKED, request)
    return _shown(HttpResponse(status=302, headers={"Location": iri_to_uri(link.target)}))


@csrf_exempt
@require_http_methods(["GET", "HEAD"])
def show_pixel(request: HttpRequest, token: str) -> HttpResponse:
    """The picture, also for what is none of ours: a broken image would tell the reader of it."""
    try:
        message_id = read_open_token(token)
    except LinkForged:
        return too_many_guesses(request) or _shown(HttpResponse(PIXEL, content_type="image/gif"))
    if _is_somebody(request):
        _record(message_id, OPENED, request)
    return _shown(HttpResponse(PIXEL, content_type="image/gif"))


def _shown(answer: HttpResponse) -> HttpResponse:
    answer["Cache-Control"] = "no-store"
    answer["Referrer-Policy"] = "no-referrer"
    answer["X-Robots-Tag"] = "noindex, nofollow"
    return answer


def _is_somebody(request: HttpRequest) -> bool:
    if request.method != "GET":
        return False
    purpose = " ".join(request.headers.get(name, "") for name in ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"))
    if any(word in purpose.lower() for word in _PREFETCH):
        return False
    return _NOBODY.search(request.headers.get("User-Agent", "")) is None


# --- Recording -----------------------------------------------------------------------------------------------------


class _Recent:
    """What this process has recorded lately: a mail that is opened again and again costs PostgreSQL nothing."""

    KEPT_MAX = 50_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[UUID, str], None] = OrderedDict()

    def is_known(self, message_id: UUID, kind: str) -> bool:
        with self._lock:
            return (message_id, kind) in self._seen

    def add(self, message_id: UUID, kind: str) -> None:
        with self._lock:
            self._seen[message_id, kind] = None
            if len(self._seen) > self.KEPT_MAX:
                self._seen.popitem(last=False)


_recent = _Recent()


def _record(message_id: UUID, kind: str, request: HttpRequest) -> None:
    """Together with whoever opens something at the same time (`receipts.together`)."""
    if _recent.is_known(message_id, kind):
        return
    try:
        # By primary key; the token is what says that it is theirs.
        found = Message.objects.filter(pk=message_id).values_list("application_id", "subscription_id").first()
        if found is None:
            return
        application_id, subscription_id = found
        report = "opened" if kind == OPENED else "clicked"
        receipts = [Receipt(message_id, kind, metadata={"provider": "email", "report": report})]
        application = Application(pk=application_id)
        if kind == OPENED and request.headers.get("User-Agent", "").strip() == _APPLE_PROXY:
            receipts_apply(application=application, receipts=receipts, trusted=True, shows_activity=False)
        else:
            gathering.apply(application=application, receipts=receipts, trusted=True)
        subscriptions_forgive(subscription_ids={subscription_id}, application_id=application_id)
    except DatabaseLayerError as error:
        log.warning("an opened e-mail could not be recorded", extra={"cause": type(error).__name__})
        return
    _recent.add(message_id, kind)
