"""Reports of e-mail providers by webhook: what proves them, and what they mean (providers.md 3.1 to 3.3).

django-anymail normalises their events; it does not tell hard bounces from soft ones, and does not check every
provider's signature, so both are done here. Our message is found by the metadata that was sent with it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import time
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from anymail.exceptions import AnymailError
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from django.conf import settings

from apps.messaging.adapters.anymail import METADATA_KEY
from apps.messaging.adapters.base import Outcome
from apps.messaging.adapters.smtp_reasons import HARD_BOUNCE, INVALID, SOFT_BOUNCE, Reply, smtp_verdict
from apps.messaging.receipts.gateways import is_same, json_of, message_id_of, unproved_json
from apps.messaging.receipts.providers import Forged, Hook, Hooked, Unreadable
from apps.messaging.receipts.reports import Report, ReportKind
from apps.messaging.retry import Fault

log = logging.getLogger(__name__)

COMPLAINED = -44
UNSUBSCRIBED = -45
NOT_SENT = -41
"""Stored with the message: the provider could not make it, and no recipient is to blame."""
REPLAY_S = 12 * 3600
"""How old a signature may be: providers that were refused try again for hours, some with the first signature. What is
applied twice changes nothing, so the window may be wide."""
REPLAY_SVIX_S = 5 * 60
"""Resend signs each attempt anew."""
FETCH_TIMEOUT_S = 5.0
CERTIFICATE_BYTES_MAX = 32_768


def parse(hook: Hook) -> Hooked:
    """Raises `Forged` or `Unreadable`."""
    esp = str(hook.secret.get("esp") or "")
    reader = _READERS.get(esp)
    if hook.method != "POST" or reader is None:
        raise Forged("this provider posts")
    return reader(hook)


# --- What an event means -------------------------------------------------------------------------------------------


class Event(NamedTuple):
    """An event that django-anymail has normalised, with the provider's own words."""

    type: str
    reject_reason: str
    mta_response: str
    message_id: str
    at: Any
    raw: Mapping[str, Any]


class Failure(NamedTuple):
    """Why a message did not arrive, and what that does to the subscription."""

    subscription_status: int | None = None
    soft_status: int | None = None
    fault: Fault = Fault.RECIPIENT


HARD = Failure(HARD_BOUNCE)
BAD_ADDRESS = Failure(INVALID)
SOFT = Failure(soft_status=SOFT_BOUNCE)
OURS = Failure(fault=Fault.SENDER)

REJECTED: dict[str, Failure] = {
    "invalid": BAD_ADDRESS,
    "bounced": HARD,
    "timed_out": Failure(SOFT_BOUNCE),  # it has failed repeatedly, by the provider's count
    "spam": Failure(COMPLAINED),
    "unsubscribed": Failure(UNSUBSCRIBED),
}
"""The provider did not try: its reason → what follows. Every other reason is its policy, and nobody's fault."""

SES_BOUNCES: dict[tuple[str, str], Failure] = {
    ("Permanent", "General"): HARD,
    ("Permanent", "NoEmail"): HARD,
    ("Permanent", "Suppressed"): HARD,
    ("Permanent", "OnAccountSuppressionList"): HARD,
    ("Permanent", "UnsubscribedRecipient"): Failure(UNSUBSCRIBED),
    ("Transient", "General"): SOFT,
    ("Transient", "MailboxFull"): SOFT,
    ("Transient", "MessageTooLarge"): OURS,
    ("Transient", "ContentRejected"): OURS,
    ("Transient", "AttachmentRejected"): OURS,
    ("Undetermined", "Undetermined"): SOFT,
}


def report_of(esp: str, event: Event) -> Report | None:
    """The report that an event makes; None for one that says nothing of the message's fate."""
    kind = _KINDS.get(event.type)
    if kind is not None:
        if esp == "amazon_ses" and event.type == "complained" and _ses_says_not_spam(event.raw):
            return None
        if _is_machine(event.raw):
            return None
        ends = {"complained": COMPLAINED, "unsubscribed": UNSUBSCRIBED}.get(event.type)
        return Report(event.message_id, kind, event.at, event.type, subscription_status=ends)
    if event.type == "bounced":
        return _failed(event, _bounce(esp, event))
    if event.type == "rejected":
        return _failed(event, REJECTED.get(event.reject_reason, OURS))
    if event.type == "failed":
        return _failed(event, OURS)._replace(details={"code": NOT_SENT})
    return None


_KINDS = {
    "delivered": ReportKind.DELIVERED,
    "deferred": ReportKind.DEFERRED,
    "opened": ReportKind.OPENED,
    "clicked": ReportKind.CLICKED,
    "complained": ReportKind.COMPLAINED,
    "unsubscribed": ReportKind.UNSUBSCRIBED,
}


def _failed(event: Event, failure: Failure) -> Report:
    found = _STATUS.search(event.mta_response)
    reason = f"{event.type} {found[0]}" if found else f"{event.type} {event.reject_reason}".strip()
    return Report(
        event.message_id,
        ReportKind.FAILED,
        event.at,
        reason[:100],
        failure.fault,
        failure.subscription_status,
        failure.soft_status,
    )


def _is_machine(raw: Mapping[str, Any]) -> bool:
    """Opened by a proxy that fetches every picture (Apple's Mail Privacy Protection): nobody has read it by that."""
    return raw.get("sg_machine_open") is True or raw.get("event") in ("unique_proxy_open", "proxy_open")


def _ses_says_not_spam(raw: Mapping[str, Any]) -> bool:
    complaint = raw.get("complaint")
    return isinstance(complaint, Mapping) and complaint.get("complaintFeedbackType") == "not-spam"


# --- Bounces -------------------------------------------------------------------------------------------------------

_STATUS = re.compile(r"\b[45]\.\d{1,3}\.\d{1,3}\b")
_BASIC = re.compile(r"\b[45]\d\d\b")


def _bounce(esp: str, event: Event) -> Failure:
    """Hard or soft: by the provider's own field, then by the code that the receiving server gave."""
    if event.reject_reason == "invalid":
        return BAD_ADDRESS
    own = _OWN_FIELDS.get(esp)
    return (own(event) if own else None) or by_code(event.mta_response) or SOFT


def by_code(words: str) -> Failure | None:
    """What a server's answer says, by the table of SMTP; None if there is no code in it."""
    enhanced, basic = _STATUS.search(words), _BASIC.search(words)
    if enhanced is None and basic is None:
        return None
    code = int(basic[0]) if basic else int(enhanced[0][0]) * 100 if enhanced else 0
    verdict = smtp_verdict(Reply(code, enhanced[0] if enhanced else "", words))
    if verdict.subscription_status is not None or verdict.soft_status is not None:
        return Failure(verdict.subscription_status, verdict.soft_status)
    # The provider has tried for hours: what was temporary counts now.
    return SOFT if verdict.outcome in (Outcome.TRANSIENT, Outcome.THROTTLED) else OURS


def _of_ses(event: Event) -> Failure | None:
    bounce = event.raw.get("bounce")
    kind = (
        (str(bounce.get("bounceType")), str(bounce.get("bounceSubType"))) if isinstance(bounce, Mapping) else ("", "")
    )
    return SES_BOUNCES.get(kind) or (HARD if kind[0] == "Permanent" else SOFT)


def _of_brevo(event: Event) -> Failure | None:
    if event.raw.get("event") == "soft_bounce":
        return SOFT
    return by_code(event.mta_response) or HARD


def _of_postmark(event: Event) -> Failure | None:
    return {"HardBounce": HARD, "SoftBounce": SOFT, "VirusNotification": OURS}.get(str(event.raw.get("Type")))


def _of_mailgun(event: Event) -> Failure | None:
    data = event.raw.get("event-data")
    data = data if isinstance(data, Mapping) else event.raw
    status = data.get("delivery-status")
    status = status if isinstance(status, Mapping) else {}
    if data.get("reason") == "suppress-bounce":
        return HARD
    words = f"{status.get('code', '')} {status.get('enhanced-code', '')} {status.get('message', '')}"
    found = by_code(words)
    # Of a severe failure, a code of its own (605, 607) is Mailgun's list of those who bounced.
    return found or (HARD if data.get("severity") == "permanent" and data.get("reason") == "bounce" else None)


def _of_sendgrid(event: Event) -> Failure | None:
    found = by_code(f"{event.raw.get('status', '')} {event.mta_response}")
    # A block is the receiver's refusal of this message or of us, and no fault of the address.
    return found if found is None or event.raw.get("type") != "blocked" or found is not HARD else SOFT


def _of_resend(event: Event) -> Failure | None:
    data = event.raw.get("data")
    bounce = data.get("bounce") if isinstance(data, Mapping) else None
    if not isinstance(bounce, Mapping):
        return None
    kind, words = str(bounce.get("type", "")), str(bounce.get("message", ""))
    known = SES_BOUNCES.get((kind, str(bounce.get("subType", ""))))
    if known is not None:
        return known
    return HARD if kind == "Permanent" or "hard bounce" in words or "suppressed sending" in words else SOFT


_OWN_FIELDS: dict[str, Callable[[Event], Failure | None]] = {
    "amazon_ses": _of_ses,
    "brevo": _of_brevo,
    "postmark": _of_postmark,
    "mailgun": _of_mailgun,
    "sendgrid": _of_sendgrid,
    "resend": _of_resend,
}


# --- Reading -------------------------------------------------------------------------------------------------------

_VIEWS = {
    "amazon_ses": ("amazon_ses", "AmazonSESTrackingWebhookView"),
    "sendgrid": ("sendgrid", "SendGridTrackingWebhookView"),
    "mailgun": ("mailgun", "MailgunTrackingWebhookView"),
    "postmark": ("postmark", "PostmarkTrackingWebhookView"),
    "brevo": ("brevo", "BrevoTrackingWebhookView"),
    "resend": ("resend", "ResendTrackingWebhookView"),
}


def _view(esp: str) -> Any:
    """django-anymail's view, for its words only: it is made without settings, and sees no request."""
    module, name = _VIEWS[esp]
    view_class = getattr(import_module(f"anymail.webhooks.{module}"), name)
    return view_class.__new__(view_class)


class _NoRequest:
    headers: Mapping[str, str] = {}


def _normalised(esp: str, raw: Any) -> Any:
    view = _view(esp)
    return view.esp_to_anymail_event(raw, _NoRequest()) if esp == "resend" else view.esp_to_anymail_event(raw)


def _reports(esp: str, raws: Iterable[Any], normalise: Callable[[Any], Any]) -> Hooked:
    """The reports of events; one that cannot be read costs none of the others."""
    reports: list[Report] = []
    unread = total = 0
    for raw in raws:
        total += 1
        try:
            if not isinstance(raw, dict):
                raise TypeError("not an object")
            for event in _as_list(normalise(raw)):
                message_id = message_id_of((event.metadata or {}).get(METADATA_KEY))
                read = Event(
                    str(event.event_type),
                    str(event.reject_reason or ""),
                    str(event.mta_response or ""),
                    message_id,
                    event.timestamp,
                    raw,
                )
                report = report_of(esp, read) if message_id else None
                if report is not None:
                    reports.append(report)
        except (AnymailError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            unread += 1
            log.warning("an e-mail provider's event cannot be read", extra={"esp": esp, "cause": type(error).__name__})
    if total and unread == total:
        raise Unreadable("none of its events can be read")
    return Hooked(reports=reports)


def _as_list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


# --- Signatures ----------------------------------------------------------------------------------------------------


def _recent(timestamp: object, window_s: float) -> None:
    """Raise `Forged` for a signature that is too old, or of the future."""
    try:
        age = time.time() - float(str(timestamp))
    except ValueError:
        raise Forged("it is signed without a time") from None
    if not -300 <= age <= window_s:
        raise Forged("its signature is too old")


def _basic(esp: str) -> Callable[[Hook], Hooked]:
    """Postmark and Brevo sign nothing: user and password are in the address that they were told."""

    def read(hook: Hook) -> Hooked:
        expected = str(hook.secret.get("webhook_auth") or "")
        scheme, _, given = hook.headers.get("authorization", "").partition(" ")
        try:
            password = base64.b64decode(given, validate=True).decode()
        except (NotBase64, ValueError, UnicodeDecodeError):
            password = ""
        if scheme.lower() != "basic" or not is_same(password, expected):
            raise Forged("user and password are not the webhook's")
        return _reports(esp, [json_of(hook.body)], lambda raw: _normalised(esp, raw))

    return read


def _sendgrid(hook: Hook) -> Hooked:
    timestamp = hook.headers.get("x-twilio-email-event-webhook-timestamp", "")
    signature = hook.headers.get("x-twilio-email-event-webhook-signature", "")
    try:
        key = load_der_public_key(base64.b64decode(str(hook.secret.get("webhook_key") or ""), validate=True))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise Forged("the verification key is not one of SendGrid's")
        key.verify(
            base64.b64decode(signature, validate=True), timestamp.encode() + hook.body, ec.ECDSA(hashes.SHA256())
        )
    except (NotBase64, ValueError, InvalidSignature):
        raise Forged("it is not signed with the verification key") from None
    _recent(timestamp, REPLAY_S)
    events = json_of(hook.body)
    if not isinstance(events, list):
        raise Unreadable("it is no list of events")
    return _reports("sendgrid", events, lambda raw: _normalised("sendgrid", raw))


def _mailgun(hook: Hook) -> Hooked:
    content = unproved_json(hook.body)
    signature = content.get("signature") if isinstance(content, dict) else None
    if not isinstance(signature, dict):
        raise Forged("it is not signed")
    timestamp, token = str(signature.get("timestamp", "")), str(signature.get("token", ""))
    key = str(hook.secret.get("webhook_key") or "")
    expected = (
        hmac.new(key.encode(), f"{timestamp}{token}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()
        if key
        else ""
    )
    if not is_same(str(signature.get("signature", "")), expected):
        raise Forged("it is not signed with the signing key")
    _recent(timestamp, REPLAY_S)
    return _reports("mailgun", [content], lambda raw: _normalised("mailgun", raw))


def _resend(hook: Hook) -> Hooked:
    """As Svix signs: HMAC-SHA256 of id, time and body; several signatures while a key is rotated."""
    number, timestamp = hook.headers.get("svix-id", ""), hook.headers.get("svix-timestamp", "")
    try:
        key = base64.b64decode(str(hook.secret.get("webhook_key") or "").removeprefix("whsec_"), validate=True)
    except (NotBase64, ValueError):
        key = b""
    digest = hmac.new(key, f"{number}.{timestamp}.".encode() + hook.body, hashlib.sha256).digest() if key else b""
    expected = base64.b64encode(digest).decode()
    given = [part.partition(",")[2] for part in hook.headers.get("svix-signature", "").split() if part[:3] == "v1,"]
    if not any(is_same(signature, expected) for signature in given):
        raise Forged("it is not signed with the webhook's secret")
    _recent(timestamp, REPLAY_SVIX_S)
    return _reports("resend", [json_of(hook.body)], lambda raw: _normalised("resend", raw))


# --- Amazon --------------------------------------------------------------------------------------------------------

_SNS_HOST = re.compile(r"sns\.[a-z]{2}(-[a-z]+)+-\d{1,2}\.amazonaws\.com(\.cn)?")
"""A region has to stand there: `sns.s3.amazonaws.com` is a bucket, that somebody has called sns."""
_SNS_CERTIFICATE = re.compile(r"/(sns/)?SimpleNotificationService(-[0-9a-f]{1,64})?\.pem")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_VALIDATED = "Successfully validated SNS topic for Amazon SES event publishing."


def _amazon(hook: Hook) -> Hooked:
    """An SNS envelope. Anybody may have a topic and Amazon signs for all of them, so the topic has to be the
    credential's own, also for a subscription to be confirmed."""
    envelope = unproved_json(hook.body)
    if not isinstance(envelope, dict) or envelope.get("Type") not in _SIGNED:
        raise Forged("it is no message of SNS")
    topic = str(hook.secret.get("topic_arn") or "")
    if not topic or envelope.get("TopicArn") != topic:
        raise Forged("it is of another topic")
    _check_sns(envelope)
    if envelope["Type"] == "SubscriptionConfirmation":
        _confirm(str(envelope.get("SubscribeURL", "")))
        return Hooked()
    if envelope["Type"] != "Notification" or envelope.get("Message") == _VALIDATED:
        return Hooked()
    event = json_of(str(envelope.get("Message", "")).encode())
    return _reports("amazon_ses", [event], lambda raw: _view("amazon_ses").esp_to_anymail_events(raw, envelope))


def _check_sns(envelope: Mapping[str, Any]) -> None:
    """Raise `Forged` unless Amazon has signed it."""
    names = [name for name in _SIGNED[envelope["Type"]] if name in envelope]
    text = "".join(f"{name}\n{envelope[name]}\n" for name in names).encode("utf-8", "replace")
    # Version 1 is SHA-1, by Amazon's choice: topics have to be changed to version 2 by who owns them.
    versions: dict[object, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303
    algorithm = versions.get(envelope.get("SignatureVersion"))
    if algorithm is None:
        raise Forged("its signature has no version that is known")
    key = _sns_key(str(envelope.get("SigningCertURL", "")))
    try:
        signature = base64.b64decode(str(envelope.get("Signature", "")), validate=True)
        key.verify(signature, text, padding.PKCS1v15(), algorithm)
    except (NotBase64, ValueError, InvalidSignature):
        raise Forged("it is not signed by Amazon") from None


def _is_amazons(url: str) -> bool:
    """Whether it is an address of SNS; of the stand-in, where there is one (`EMAIL_API_URL`)."""
    try:
        parts = urlsplit(url)
        own = urlsplit(settings.EMAIL_API_URL)
        if settings.EMAIL_API_URL and (parts.hostname, parts.port) == (own.hostname, own.port):
            return True
        is_plain = parts.port in (None, 443) and parts.username is None and parts.password is None
    except ValueError:
        return False
    return parts.scheme == "https" and is_plain and _SNS_HOST.fullmatch(parts.hostname or "") is not None


@lru_cache(maxsize=16)
def _sns_key(url: str) -> rsa.RSAPublicKey:
    """The key of the certificate at an address of Amazon's. Raises `Forged`."""
    if not _is_amazons(url) or not _SNS_CERTIFICATE.fullmatch(urlsplit(url).path):
        raise Forged("its certificate is not at Amazon's")
    try:
        key = x509.load_pem_x509_certificate(_fetched(url)).public_key()
    except ValueError:
        raise Forged("its certificate cannot be read") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise Forged("its certificate is of another kind")
    return key


def _confirm(url: str) -> None:
    """Tell SNS that the topic may report to us. Raises `Forged`."""
    if not _is_amazons(url):
        raise Forged("the address to confirm at is not Amazon's")
    _fetched(url)


def _fetched(url: str) -> bytes:
    """Raises `Forged`: Amazon sends again what it could not deliver."""
    try:
        with (
            requests.Session() as session,
            session.get(
                url,
                timeout=FETCH_TIMEOUT_S,
                allow_redirects=False,
                stream=True,
                verify=settings.PROVIDER_CA_FILE or True,
            ) as answer,
        ):
            content = answer.raw.read(CERTIFICATE_BYTES_MAX, decode_content=True)
            if answer.status_code != 200:
                raise Forged("Amazon does not answer")
            return bytes(content)
    except (requests.RequestException, OSError):
        raise Forged("Amazon cannot be reached") from None


_READERS: dict[str, Callable[[Hook], Hooked]] = {
    "amazon_ses": _amazon,
    "sendgrid": _sendgrid,
    "mailgun": _mailgun,
    "postmark": _basic("postmark"),
    "brevo": _basic("brevo"),
    "resend": _resend,
}
