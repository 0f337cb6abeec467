"""E-mail by the providers' APIs: Amazon SES, SendGrid, Mailgun, Postmark, Brevo and Resend, through django-anymail.

The credential names the provider; its backend is made with the credential's own settings, none of Django's. Where the
provider takes many recipients in a request (merge fields, or a list of messages) they go together. Opens and clicks are
counted by our own links, as with SMTP, so the provider's counting is switched off.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import requests
from anymail.exceptions import AnymailAPIError, AnymailError, AnymailNotSupportedWarning
from anymail.message import AnymailMessage
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy

from apps.messaging.adapters import email_content
from apps.messaging.adapters.base import (
    Content,
    ContentError,
    CredentialError,
    Delivery,
    Endpoint,
    FieldKind,
    Outcome,
    Result,
    SecretField,
    summary_of,
)
from apps.messaging.adapters.email_building import (
    Author,
    Envelope,
    Letter,
    Links,
    envelope_address,
    extra_headers,
    marks_of,
    sender_line,
)
from apps.messaging.adapters.email_tokens import LinkMaker
from apps.messaging.adapters.gateway import GroupSender
from apps.messaging.adapters.smtp import read_flag
from apps.messaging.adapters.smtp_reasons import HARD_BOUNCE, INVALID
from automata_signal.metrics import provider_answered

__all__ = ["ESPS", "METADATA_KEY", "AnymailAdapter", "AnymailCredential", "AnymailSender", "Esp"]

log = logging.getLogger(__name__)

METADATA_KEY = "automata_message_id"
"""Under which the provider keeps our message's id and tells it in its reports."""
BUSY_WAIT_S = 30.0


class Esp(NamedTuple):
    """A provider, as its adapter knows it."""

    label: str
    backend: str
    """Of django-anymail."""
    path: str
    """Of its API at a stand-in (`EMAIL_API_URL`)."""
    per_request: int = 1
    """Recipients in a request."""
    merge_field: str = ""
    """How a field is written that differs between recipients; empty where it has none: then letters with links of each
    recipient's own go one by one."""
    tags: int = 10
    """How many it takes."""
    own_counting: bool = False
    """Whether it counts opens and clicks unless told not to."""


ESPS: dict[str, Esp] = {
    "amazon_ses": Esp("Amazon SES", "amazon_ses", "/ses"),
    "sendgrid": Esp("SendGrid", "sendgrid", "/sendgrid/v3/", 500, "-{}-", own_counting=True),
    "mailgun": Esp("Mailgun", "mailgun", "/mailgun/v3/", 500, "%recipient.{}%", tags=3, own_counting=True),
    "postmark": Esp("Postmark", "postmark", "/postmark/", 500, tags=1, own_counting=True),
    "brevo": Esp("Brevo", "brevo", "/brevo/v3/", 500),
    "resend": Esp("Resend", "resend", "/resend/", 100),
}
_WITH_KEY = ("sendgrid", "mailgun", "postmark", "brevo", "resend")
_BASIC_AUTH = ("postmark", "brevo")
MAILGUN_EU = "https://api.eu.mailgun.net/v3/"


class AnymailAdapter:
    """E-mail by a provider's API. Secret: which provider, its keys, who sends, and what proves its reports."""

    name: ClassVar[str] = "anymail"
    resend_is_harmless: ClassVar[bool] = False
    needs_secret: ClassVar[bool] = True
    reasons: ClassVar[frozenset[str]] = frozenset(
        {"400", "401", "403", "404", "413", "422", "429", "500", "502", "503", "504", "invalid", "rejected", "failed"}
        | {"couldnt_connect", "connection_lost", "operation_timedout", "invalid_address", "unsupported"}
    )
    secret_fields: ClassVar[tuple[SecretField, ...]] = (
        SecretField("esp", gettext_lazy("Provider"), choices=tuple((name, esp.label) for name, esp in ESPS.items())),
        SecretField("from_address", gettext_lazy("Sender's address"), placeholder="news@example.com"),
        SecretField("from_name", gettext_lazy("Sender's name")),
        SecretField(
            "api_key", gettext_lazy("API key or server token"), is_secret=True, only_for=("esp", _WITH_KEY)
        ),
        SecretField("access_key_id", gettext_lazy("Access key id"), only_for=("esp", ("amazon_ses",))),
        SecretField(
            "secret_access_key", gettext_lazy("Secret access key"), is_secret=True, only_for=("esp", ("amazon_ses",))
        ),
        SecretField(
            "region", gettext_lazy("Region"), only_for=("esp", ("amazon_ses", "mailgun")), placeholder="ap-northeast-2",
            help=gettext_lazy("Of Mailgun: us or eu."),
        ),
        SecretField(
            "configuration_set", gettext_lazy("Configuration set"), only_for=("esp", ("amazon_ses",)),
            help=gettext_lazy("Its event destination is the SNS topic that reports to us."),
        ),
        SecretField("topic_arn", gettext_lazy("SNS topic (ARN)"), only_for=("esp", ("amazon_ses",))),
        SecretField("sender_domain", gettext_lazy("Sending domain"), only_for=("esp", ("mailgun",))),
        SecretField("message_stream", gettext_lazy("Message stream"), only_for=("esp", ("postmark",))),
        SecretField(
            "webhook_key",
            gettext_lazy("Key of the webhook's signature"),
            is_secret=True,
            help=gettext_lazy("SendGrid: the verification key. Mailgun: the HTTP webhook signing key. Resend: whsec_…"),
            only_for=("esp", ("sendgrid", "mailgun", "resend")),
        ),
        SecretField(
            "webhook_auth",
            gettext_lazy("User and password of the webhook"),
            is_secret=True,
            placeholder="user:password",
            only_for=("esp", _BASIC_AUTH),
        ),
        SecretField("track_opens", gettext_lazy("Count opens"), FieldKind.YES_NO),
        SecretField("track_clicks", gettext_lazy("Count clicks"), FieldKind.YES_NO),
    )  # fmt: skip

    def check_content(self, content: Content) -> None:
        """Raise `ContentError` for what is no e-mail."""
        email_content.check_content(content)

    def check_secret(self, secret: Mapping[str, Any]) -> None:
        """Raise `CredentialError` for what is missing or malformed. No network."""
        AnymailCredential.read(secret)

    def summarise_secret(self, secret: Mapping[str, Any]) -> dict[str, str]:
        """All but the keys."""
        return summary_of(self.secret_fields, secret)

    def open(self, secret: Mapping[str, Any], endpoint: Endpoint) -> AnymailSender:
        """A sender for this credential. Connects on the first send. Raises `CredentialError`."""
        return AnymailSender(AnymailCredential.read(secret), endpoint)


_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?")


class AnymailCredential(NamedTuple):
    """A secret that was read."""

    esp: str
    from_address: str
    from_name: str
    api_key: str
    access_key_id: str
    secret_access_key: str
    region: str
    configuration_set: str
    topic_arn: str
    sender_domain: str
    message_stream: str
    webhook_key: str
    webhook_auth: str
    track_opens: bool
    track_clicks: bool

    @classmethod
    def read(cls, secret: Mapping[str, Any]) -> AnymailCredential:
        """Raise `CredentialError` naming the first key that is missing, unknown or malformed."""
        esp = secret.get("esp")
        if esp not in ESPS:
            raise CredentialError("esp", f"must be one of {', '.join(ESPS)}")
        known = {f.name for f in AnymailAdapter.secret_fields if f.only_for is None or esp in f.only_for[1]}
        if unknown := set(secret) - known:
            raise CredentialError(min(unknown), f"is not a key of a secret of {ESPS[esp].label}")
        flags: dict[str, Any] = {name: read_flag(secret, name) for name in ("track_opens", "track_clicks")}
        texts = {name: _one_line(secret, name) for name in cls._fields if name not in flags}
        needed = ("access_key_id", "secret_access_key", "region") if esp == "amazon_ses" else ("api_key",)
        for name in ("from_address", *needed):
            if not texts[name]:
                raise CredentialError(name, "is missing")
        local = texts["from_address"].rpartition("@")[0]
        if not email_content.is_address(texts["from_address"]) or not local.isascii():
            raise CredentialError("from_address", "is not an e-mail address, or not ASCII before the @")
        if esp == "amazon_ses" and not _REGION.fullmatch(texts["region"]):
            raise CredentialError("region", "must be the name of a region, such as ap-northeast-2")
        if esp == "mailgun" and texts["region"] not in ("", "us", "eu"):
            raise CredentialError("region", "must be us or eu")
        if texts["topic_arn"] and not _TOPIC.fullmatch(texts["topic_arn"]):
            raise CredentialError("topic_arn", "must be the ARN of an SNS topic")
        if texts["sender_domain"]:
            try:
                email_content.ascii_domain(texts["sender_domain"])
            except UnicodeError:
                raise CredentialError("sender_domain", "is not a domain") from None
        if texts["webhook_auth"] and not re.fullmatch(r"[^:]+:.{8,}", texts["webhook_auth"]):
            raise CredentialError("webhook_auth", "must be user:password, the password of 8 characters at least")
        return cls(**texts, **flags)


def _one_line(secret: Mapping[str, Any], name: str) -> Any:
    value = secret.get(name, "")
    if not isinstance(value, str) or len(value) > 1_000 or not value.isprintable() or not value.isascii():
        if name == "from_name" and isinstance(value, str) and len(value) <= 200 and value.isprintable():
            return value
        raise CredentialError(name, "must be one line of text")
    return value.strip()


# --- Sending -------------------------------------------------------------------------------------------------------


class _Written(NamedTuple):
    """A content as the provider takes it: with its merge fields where it has any, else with our marks."""

    content: Content
    letter: Letter
    marks: tuple[str, ...]
    """What differs between recipients."""
    subject: str
    html: str
    text: str


class _One(NamedTuple):
    delivery: Delivery
    envelope: Envelope


class AnymailSender(GroupSender):
    """Sessions with one provider's API, one for each thread."""

    provider = "anymail"
    KEPT_MAX = 16

    def __init__(self, credential: AnymailCredential, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._credential = credential
        self._esp = ESPS[credential.esp]
        sender = envelope_address(credential.from_address)
        assert sender is not None  # the credential was read
        self._author = Author(
            sender.address,
            credential.from_name,
            credential.track_opens,
            credential.track_clicks,
            endpoint.public_url,
        )
        self._links = LinkMaker(endpoint.public_url)
        self._written: dict[int, _Written] = {}
        self._local = threading.local()
        self._sessions: list[Any] = []

    def close(self) -> None:
        super().close()
        for backend in self._sessions:
            backend.close()
        self._sessions.clear()

    def _key(self, delivery: Delivery) -> Hashable:
        return id(delivery.content) if self._goes_together(self._as_written(delivery.content)) else None

    def _at_most(self, key: Hashable) -> int:
        return 1 if key is None else self._esp.per_request

    def _goes_together(self, written: _Written) -> bool:
        return self._esp.per_request > 1 and (bool(self._esp.merge_field) or not written.marks)

    def _as_written(self, content: Content) -> _Written:
        found = self._written.get(id(content))
        if found is not None and found.content is content:
            return found
        letter = Letter.of(content, self._author)
        marks = tuple(marks_of(letter))
        html, text = letter.html, letter.text
        if self._esp.merge_field:
            for number, mark in enumerate(marks):
                field = self._esp.merge_field.format(f"automata_{number}")
                html, text = html.replace(mark, field), text.replace(mark, field)
        made = _Written(content, letter, marks, letter.subject, html, text)
        if len(self._written) >= self.KEPT_MAX:
            self._written.clear()
        self._written[id(content)] = made
        return made

    def _exchange(self, group: list[Delivery]) -> list[Result]:
        results: list[Result] = []
        ready: list[_One] = []
        for delivery in group:
            envelope = envelope_address(delivery.address)
            if envelope is None:
                results.append(_invalid(delivery))
            elif envelope.needs_utf8:
                results.append(Result(delivery.message_id, Outcome.UNSUPPORTED, "smtputf8_not_offered"))
            else:
                ready.append(_One(delivery, envelope))
        for several in _without_twins(ready):
            results += self._sent(several)
        return results

    def _sent(self, group: Sequence[_One]) -> list[Result]:
        """One request and what it says of each message; several if the provider refuses one for the sake of another."""
        try:
            written = self._as_written(group[0].delivery.content)
            message = self._message(written, group)
        except ContentError as error:
            return _all(group, Outcome.PAYLOAD_REJECTED, f"invalid {error.field}")
        began = time.monotonic()
        try:
            self._backend().send_messages([message])
        except AnymailError as error:
            refusal = _refusal(error)
            provider_answered(self.provider, time.monotonic() - began)
            if refusal.outcome is Outcome.PAYLOAD_REJECTED and len(group) > 1:
                half = len(group) // 2
                return [*self._sent(group[:half]), *self._sent(group[half:])]
            return [refusal._replace(message_id=one.delivery.message_id) for one in group]
        except Exception:
            log.exception("an e-mail provider's answer could not be read", extra={"esp": self._credential.esp})
            return _all(group, Outcome.UNKNOWN, "unreadable_answer")
        provider_answered(self.provider, time.monotonic() - began)
        recipients = message.anymail_status.recipients
        return [_result(one, recipients.get(one.envelope.address)) for one in group]

    def _message(self, written: _Written, group: Sequence[_One]) -> Any:
        letter, options = written.letter, written.letter.options
        links = {one.envelope.address: Links(one.delivery, letter, self._links) for one in group}
        html, text = written.html, written.text
        if not self._esp.merge_field:
            (first, *_) = links.values()
            html, text = first.filled(html), first.filled(text)
        message = AnymailMessage(written.subject, text, sender_line(letter, self._author), list(links))
        if html:
            message.attach_alternative(html, "text/html")
        if options.reply_to:
            message.reply_to = [options.reply_to]
        for attachment in letter.attachments:
            message.attach(attachment.name, attachment.content, attachment.content_type)
        message.extra_headers = self._headers(letter)
        message.tags = list(options.tags[: self._esp.tags])
        if self._esp.own_counting:
            message.track_opens = message.track_clicks = False
        own = {one.envelope.address: one.delivery for one in group}
        metadata = {address: {METADATA_KEY: delivery.message_id} for address, delivery in own.items()}
        unsubscribe = {address: {"List-Unsubscribe": f"<{made.unsubscribe()}>"} for address, made in links.items()}
        if len(group) == 1 and not (self._esp.merge_field and written.marks):
            message.metadata = next(iter(metadata.values()))
            if options.list_unsubscribe:
                message.extra_headers |= next(iter(unsubscribe.values()))
            return message
        message.merge_data = {
            address: {f"automata_{n}": made.filled(mark) for n, mark in enumerate(written.marks)}
            for address, made in links.items()
        }
        message.merge_metadata = metadata
        if options.list_unsubscribe:
            message.merge_headers = unsubscribe
        return message

    def _headers(self, letter: Letter) -> dict[str, str]:
        headers = extra_headers(letter, self._author)
        if (
            self._credential.esp == "brevo"
        ):  # it sends other letters in headers as they are: django-anymail refuses them
            headers = {name: value for name, value in headers.items() if value.isascii()}
        return headers

    def _backend(self) -> Any:
        """This thread's session with the provider."""
        backend = getattr(self._local, "backend", None)
        if backend is None:
            backend = self._local.backend = open_backend(self._credential, self._endpoint)
            self._sessions.append(backend)
        return backend


def _without_twins(group: Iterable[_One]) -> list[list[_One]]:
    """Groups in each of which no address stands twice: what differs between recipients is told by address."""
    groups: list[dict[str, _One]] = []
    for one in group:
        place = next((known for known in groups if one.envelope.address not in known), None)
        if place is None:
            groups.append({one.envelope.address: one})
        else:
            place[one.envelope.address] = one
    return [list(known.values()) for known in groups]


def open_backend(credential: AnymailCredential, endpoint: Endpoint) -> Any:
    """django-anymail's backend with this credential's settings, open."""
    esp = ESPS[credential.esp]
    made: dict[str, Any] = {"ignore_recipient_status": True}
    if credential.esp == "amazon_ses":
        made["client_params"] = _boto_params(credential, endpoint)
        if credential.configuration_set:
            made["configuration_set_name"] = credential.configuration_set
    else:
        made["timeout"] = (min(endpoint.timeout_s, 5.0), endpoint.timeout_s)
        made["server_token" if credential.esp == "postmark" else "api_key"] = credential.api_key
        if endpoint.url:
            made["api_url"] = f"{endpoint.url.rstrip('/')}{esp.path}"
        elif credential.esp == "mailgun" and credential.region == "eu":
            made["api_url"] = MAILGUN_EU
    if credential.esp == "mailgun" and credential.sender_domain:
        made["sender_domain"] = credential.sender_domain
    if credential.esp == "postmark" and credential.message_stream:
        made["message_stream"] = credential.message_stream
    if credential.esp == "sendgrid":
        made["merge_field_format"] = esp.merge_field
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnymailNotSupportedWarning)  # of SendGrid: we test it ourselves
        backend = import_string(f"anymail.backends.{esp.backend}.EmailBackend")(**made)
    backend.open()
    if credential.esp != "amazon_ses":
        backend.session.trust_env = False
        backend.session.max_redirects = 0
        if endpoint.ca_file:
            backend.session.verify = endpoint.ca_file
    return backend


def _boto_params(credential: AnymailCredential, endpoint: Endpoint) -> dict[str, Any]:
    params: dict[str, Any] = {
        "aws_access_key_id": credential.access_key_id,
        "aws_secret_access_key": credential.secret_access_key,
        "region_name": credential.region,
        "config": {
            # Its own tries would hide from us that a message may have been taken.
            "retries": {"total_max_attempts": 1},
            "connect_timeout": min(endpoint.timeout_s, 5.0),
            "read_timeout": endpoint.timeout_s,
        },
    }
    if endpoint.url:
        params["endpoint_url"] = f"{endpoint.url.rstrip('/')}{ESPS['amazon_ses'].path}"
    if endpoint.ca_file:
        params["verify"] = endpoint.ca_file
    return params


# --- What follows --------------------------------------------------------------------------------------------------


def _all(group: Iterable[_One], outcome: Outcome, reason: str) -> list[Result]:
    return [Result(one.delivery.message_id, outcome, reason) for one in group]


def _invalid(delivery: Delivery) -> Result:
    return Result(delivery.message_id, Outcome.RECIPIENT_GONE, "invalid_address", subscription_status=INVALID)


def _result(one: _One, status: Any) -> Result:
    """What the provider says of one recipient (providers.md 3.1)."""
    message_id, word = one.delivery.message_id, getattr(status, "status", None)
    provider_id = str(getattr(status, "message_id", "") or "")[:200]
    if word in ("sent", "queued"):
        return Result(message_id, Outcome.ACCEPTED, http_status=200, provider_message_id=provider_id)
    if word == "invalid":
        return Result(message_id, Outcome.RECIPIENT_GONE, word, 200, INVALID)
    if word == "rejected":  # on the provider's own list of those who bounced or complained
        return Result(message_id, Outcome.RECIPIENT_GONE, word, 200, HARD_BOUNCE)
    if word == "failed":
        return Result(message_id, Outcome.TRANSIENT, word, 200)
    return Result(message_id, Outcome.UNKNOWN, "not_in_answer", 200)


_THROTTLED = frozenset({"TooManyRequestsException", "Throttling", "ThrottlingException", "LimitExceededException"})
_REFUSED = frozenset(
    {"AccountSuspendedException", "SendingPausedException", "MailFromDomainNotVerifiedException", "AccessDenied"}
    | {"AccessDeniedException", "UnrecognizedClientException", "InvalidClientTokenId", "SignatureDoesNotMatch"}
    | {"IncompleteSignature", "ExpiredTokenException", "NotFoundException"}
)
"""Of SES: nothing can be sent with this account."""
_NOT_CONNECTED = ("NewConnectionError", "NameResolutionError", "EndpointConnectionError", "ConnectTimeout", "SSLError")
_TIMED_OUT = ("ReadTimeout", "ReadTimeoutError")


def _refusal(error: AnymailError) -> Result:
    """What follows for every message of the request; its `message_id` is empty."""
    if not isinstance(error, AnymailAPIError):
        return Result("", Outcome.PAYLOAD_REJECTED, "unsupported")
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        code = str(response.get("Error", {}).get("Code", ""))
        return _by_status(int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)), {}, code)
    if response is not None:
        return _by_status(response.status_code, response.headers, "")
    if isinstance(error, requests.TooManyRedirects):
        return Result("", Outcome.CREDENTIAL, "redirected")
    words = f"{type(error).__mro__} {error.__cause__!r} {getattr(error.__cause__, '__context__', None)!r}"
    if any(word in words for word in _NOT_CONNECTED):
        return Result("", Outcome.TRANSIENT, "couldnt_connect")
    is_late = any(word in words for word in _TIMED_OUT)
    return Result("", Outcome.UNKNOWN, "operation_timedout" if is_late else "connection_lost")


def _by_status(status: int, headers: Mapping[str, str], code: str) -> Result:
    reason = code or str(status)
    if status == 429 or code in _THROTTLED:
        after = headers.get("Retry-After", "")
        wait_s = float(after) if after.isdecimal() and len(after) < 8 else BUSY_WAIT_S
        return Result("", Outcome.THROTTLED, reason, status, retry_after_s=wait_s)
    if status in (401, 403, 404) or code in _REFUSED:
        return Result("", Outcome.CREDENTIAL, reason, status)
    if status == 504:  # a proxy has had no answer
        return Result("", Outcome.UNKNOWN, reason, status)
    if status >= 500:
        return Result("", Outcome.TRANSIENT, reason, status)
    # With 2xx the answer could not be read: it may have been taken.
    return Result("", Outcome.PAYLOAD_REJECTED if status >= 400 else Outcome.UNKNOWN, reason, status)
