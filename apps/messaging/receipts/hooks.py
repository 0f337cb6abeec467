"""The door for providers' reports: `POST /webhooks/<provider>/<credential>`.

The address names a credential, whose secret proves who calls; without a valid signature nobody learns whether the
credential exists. A report is applied before it is answered, so what we answered with 2xx is recorded; everything else
the provider sends again. Applying twice does no harm (`reports`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from uuid import UUID

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from apps.messaging.gateway_requests import ask_again, messages_of, take_due
from apps.messaging.models import GatewayRequest, Message, MessageStatus
from apps.messaging.receipts.providers import (
    ASKERS,
    PARSERS,
    AskFailed,
    Forged,
    Hook,
    Hooked,
    Parser,
    Reference,
    Unreadable,
    tell_listeners,
)
from apps.messaging.receipts.reports import Report, ReportCounts, reports_apply
from apps.messaging.stopping import is_stopping
from apps.subscriptions.services import addresses_end
from apps.tenants.access import too_many_guesses
from apps.tenants.models import ChannelCredential
from apps.tenants.services import credential_note_error
from automata_signal import metrics
from automata_signal.encryption import DecryptionError
from automata_signal.task_context import log_fields

log = logging.getLogger(__name__)

ASK_AT_ONCE = 50
ASK_MAX_S = 10.0
"""Shorter than the beat of the task; a question that has begun is finished."""
SILENT_S = 60.0
"""How long a credential whose gateway did not answer is left alone."""


@csrf_exempt  # providers post by themselves; the signature is what allows it
@require_http_methods(["POST", "GET"])
def hook(request: HttpRequest, provider: str, credential_id: UUID) -> HttpResponse:
    """204, or what the provider wants to read; 403 for what is not signed as it should be, 400 for what cannot be read,
    413 for what is too large, 429 for who guesses."""
    try:
        body = request.body
    except RequestDataTooBig:
        body = None
    if body is None or len(body) > settings.WEBHOOK_BODY_MAX_BYTES:
        return _answered(provider, "too_large", HttpResponse("The report is too large.", status=413))
    parser = PARSERS.get(provider)
    credential = ChannelCredential.objects.filter(pk=credential_id, provider=provider).first()
    try:
        if parser is None or credential is None:
            raise Forged("there is no such credential")
        return _answered(provider, "accepted", _read(credential, parser, _hook(request, credential, body)))
    except Forged as error:
        log.warning("a provider's report was refused", extra={"provider": provider, "cause": str(error)})
        refusal = HttpResponse("This is not signed as it should be.", status=403)
        return _answered(provider, "forged", too_many_guesses(request) or refusal)
    except (Unreadable, DecryptionError) as error:
        log.warning("a provider's report cannot be read", extra={"provider": provider, "cause": str(error)})
        if credential is not None:
            credential_note_error(credential.pk, error="a report by webhook could not be read")
        return _answered(provider, "unreadable", HttpResponse("This report cannot be read.", status=400))


def _hook(request: HttpRequest, credential: ChannelCredential, body: bytes) -> Hook:
    return Hook(
        credential_id=credential.pk,
        secret=credential.secret,
        url=f"{settings.PUBLIC_URL.rstrip('/')}{request.get_full_path()}",
        query={name: str(value) for name, value in request.GET.items()},
        headers={name.lower(): value for name, value in request.headers.items()},
        body=body,
        content_type=request.content_type or "",
        method=request.method or "POST",
    )


def _read(credential: ChannelCredential, parser: Parser, hook: Hook) -> HttpResponse:
    hooked = parser(hook)
    with log_fields(application_id=str(credential.application_id)):
        hooked_apply(credential, hooked)
    text, content_type = hooked.answer
    return HttpResponse(text, content_type=content_type) if text else HttpResponse(status=204)


def _answered(provider: str, outcome: str, answer: HttpResponse) -> HttpResponse:
    metrics.provider_reported(provider if provider in PARSERS else "unknown", outcome)
    answer["Cache-Control"] = "no-store"
    return answer


def hooked_apply(credential: ChannelCredential, hooked: Hooked) -> ReportCounts:
    """Apply what a provider said of messages, addresses and templates."""
    reports = [*hooked.reports, *_found(credential, hooked.by_reference)]
    counts = reports_apply(application=credential.application, provider=credential.provider, reports=reports)
    for opt_out in hooked.opt_outs:
        addresses_end(
            application=credential.application,
            type=opt_out.subscription_type,
            addresses=[opt_out.address],
            status=opt_out.status,
            reason=opt_out.reason,
        )
    tell_listeners(credential.application_id, credential.provider, hooked.events)
    return counts


def _found(credential: ChannelCredential, by_reference: Sequence[tuple[Reference, Report]]) -> list[Report]:
    if not by_reference:
        return []
    known = messages_of(credential, [reference for reference, _ in by_reference])
    return [report._replace(message_id=known[reference]) for reference, report in by_reference if reference in known]


# --- Asking for what has not come ----------------------------------------------------------------------------------


def ask_for_reports(*, max_s: float = ASK_MAX_S) -> int:
    """Ask gateways about requests whose reports are missing, until `max_s` are over; how many. Index:
    `gateway_request_due`.

    Each is taken when it is its turn, and a credential whose gateway does not answer is left alone for a while: one
    that hangs must hold up neither the others nor the sweeps, which share the queue.
    """
    asked, ends_at = 0, time.monotonic() + max_s
    while asked < ASK_AT_ONCE and (now := time.monotonic()) < ends_at and not is_stopping():
        rows = take_due(1, but=[key for key, until in _silent_until.items() if now < until])
        if not rows:
            break
        try:
            asked += _ask(rows[0])
        except Exception:  # of a form that nobody expected, or a database that refused: the others have their turn
            log.exception("a gateway's reports could not be read", extra={"provider": rows[0].provider})
            ask_again(rows[0], is_open=True)
    return asked


_silent_until: dict[UUID, float] = {}
"""Credential → until when it is not asked again, by this process' clock."""


def _ask(row: GatewayRequest) -> bool:
    """Whether the gateway was asked."""
    open_ids = Message.objects.filter(
        application_id=row.application_id, pk__in=row.message_ids, status=MessageStatus.SUCCESSFUL
    )
    credential = ChannelCredential.objects.filter(pk=row.credential_id).select_related("application").first()
    asker = ASKERS.get(row.provider)
    if credential is None or asker is None or not open_ids.exists():
        ask_again(row, is_open=False)
        return False
    try:
        hooked_apply(credential, Hooked(by_reference=asker(credential.secret, row.request_id)))
    except (AskFailed, DecryptionError) as error:
        log.warning("a gateway did not answer", extra={"provider": row.provider, "cause": str(error)})
        _silent_until[credential.pk] = time.monotonic() + SILENT_S
    ask_again(row, is_open=open_ids.exists())
    return True
