"""What e-mail providers ask of a request to send, and how they answer: one class each, by their documentation.

Each lies under its own prefix of the stand-in's port, where django-anymail's `api_url` (boto3's `endpoint_url`) can
point: `/sendgrid/v3/`, `/mailgun/v3/`, `/postmark/`, `/brevo/v3/`, `/resend/`, and `/ses` for Amazon SES v2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.utils import getaddresses
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote

import orjson

from apps.sandbox.exchange import Answer, Request
from apps.sandbox.mail_rules import read_mail, why_refused

JSON = (b"content-type", b"application/json")
TEXT = (b"content-type", b"text/plain; charset=utf-8")
_ADDRESS = re.compile(r"[^@\s<>,;\"]{1,64}@[^@\s<>,;\"]+\.[^@\s<>,;\".]+")


@dataclass(frozen=True, slots=True)
class EspAccount:
    """An account: its key (of SES the secret access key), the key's public id, and the domains that it has verified."""

    api_key: str
    domains: frozenset[str]
    key_id: str = ""


@dataclass(slots=True)
class Outgoing:
    """One message that a provider has taken, as its events tell of it."""

    esp: str
    sender: str
    recipients: tuple[str, ...]
    subject: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    message_id: str = ""
    inactive: bool = False


class RefusedError(Exception):
    """The provider refuses the request."""

    def __init__(self, answer: Answer, reason: str) -> None:
        super().__init__(reason)
        self.answer = answer
        self.reason = reason


class Api(ABC):
    """One provider's API for sending."""

    name: ClassVar[str]
    prefix: ClassVar[bytes]
    max_bytes: ClassVar[int]
    account_path: ClassVar[bytes] = b""
    """What is asked to find out whether a key is good; empty where sending keys may ask nothing."""

    def __init__(self) -> None:
        self.accounts: list[EspAccount] = []

    def read(self, request: Request) -> list[Outgoing]:
        """The messages of a request. Raises RefusedError as the provider would."""
        path = request.path.partition(b"?")[0].removeprefix(self.prefix)
        if request.method != b"POST" or not self.knows(path):
            raise self.refused(404, "Not Found")
        account = self.authenticate(request)
        if len(request.body) > self.max_bytes:
            raise self.refused(413, "Request entity too large")
        return self.messages(path, request, account)

    def query(self, request: Request) -> Answer:
        """The answer to a GET: what a key may read of its account. Raises RefusedError as the provider would."""
        path = request.path.partition(b"?")[0].removeprefix(self.prefix)
        if path != self.account_path:
            raise self.refused(404, "Not Found")
        return Answer(200, (JSON,), orjson.dumps(self.account(self.authenticate(request))))

    def account(self, account: EspAccount) -> dict[str, Any]:
        """What `GET account_path` tells of an account."""
        return {}

    @abstractmethod
    def knows(self, path: bytes) -> bool:
        """Whether messages are sent there."""

    @abstractmethod
    def authenticate(self, request: Request) -> EspAccount:
        """The account of the request's credential."""

    @abstractmethod
    def messages(self, path: bytes, request: Request, account: EspAccount) -> list[Outgoing]:
        """The messages of an authenticated request."""

    @abstractmethod
    def accepted(self, path: bytes, messages: list[Outgoing]) -> Answer:
        """The answer to messages that are taken; sets their ids."""

    @abstractmethod
    def error(self, status: int, text: str, reason: str = "") -> Answer:
        """The provider's form of an error."""

    def refused(self, status: int, text: str, reason: str = "") -> RefusedError:
        return RefusedError(self.error(status, text, reason), reason or text)

    def by_key(self, key: str) -> EspAccount:
        """The account of an API key."""
        for account in self.accounts:
            if hmac.compare_digest(account.api_key.encode(), key.encode()):
                return account
        raise self.unauthorized()

    def unauthorized(self) -> RefusedError:
        return self.refused(401, "Unauthorized")

    def body_of(self, request: Request) -> Any:
        if not request.headers.get(b"content-type", b"").startswith(b"application/json"):
            raise self.refused(415, "Content-Type should be application/json")
        try:
            return orjson.loads(request.body)
        except ValueError:
            raise self.refused(400, "Bad Request: invalid JSON") from None

    def check_attachment(self, content: Any, name: Any, *, status: int = 400) -> None:
        """Base64 and a name, as all of them ask."""
        if not isinstance(name, str) or not name or re.search(r'[\r\n"/\\]', name):
            raise self.refused(status, "attachment: a file name is required")
        try:
            base64.b64decode(content, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise self.refused(status, f"attachment {name}: content is not valid base64") from None

    def check_headers(self, headers: Mapping[str, Any], *, forbidden: Iterable[str] = (), status: int = 400) -> None:
        """Texts of one line, none of those that the provider sets itself."""
        refused = {name.lower() for name in forbidden}
        for name, value in headers.items():
            if not re.fullmatch(r"[!-9;-~]+", name) or name.lower() in refused:
                raise self.refused(status, f"header {name} may not be set")
            if not isinstance(value, str) or re.search(r"[\r\n\0]", value):
                raise self.refused(status, f"header {name}: a text of one line")

    def is_verified(self, address: str, account: EspAccount) -> bool:
        return address.rpartition("@")[2].lower() in account.domains


class SendGrid(Api):
    """Mail Send, `POST /v3/mail/send`."""

    name = "sendgrid"
    prefix = b"/sendgrid/v3/"
    max_bytes = 30 * 1024 * 1024
    account_path = b"scopes"
    _FIELDS = frozenset((
        "personalizations", "from", "reply_to", "reply_to_list", "subject", "content", "attachments", "template_id",
        "headers", "categories", "custom_args", "send_at", "batch_id", "asm", "ip_pool_name", "mail_settings",
        "tracking_settings",
    ))  # fmt: skip
    _RESERVED = (
        "x-sg-id", "x-sg-eid", "received", "dkim-signature", "Content-Type", "Content-Transfer-Encoding", "To", "From",
        "Subject", "Reply-To", "CC", "BCC",
    )  # fmt: skip

    def account(self, account: EspAccount) -> dict[str, Any]:
        return {"scopes": ["mail.send", "sender_verification_eligible", "2fa_required"]}

    def knows(self, path: bytes) -> bool:
        return path == b"mail/send"

    def authenticate(self, request: Request) -> EspAccount:
        scheme, _, key = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme != "Bearer":
            raise self.refused(401, "Permission denied, wrong credentials")
        return self.by_key(key)

    def unauthorized(self) -> RefusedError:
        return self.refused(401, "The provided authorization grant is invalid, expired, or revoked")

    def messages(self, path: bytes, request: Request, account: EspAccount) -> list[Outgoing]:
        body = self.body_of(request)
        unknown = set(body) - self._FIELDS
        if unknown:
            raise self.refused(400, f"Additional property {sorted(unknown)[0]} is not allowed")
        sender = self._address(body.get("from"), "from")
        if not self.is_verified(sender, account):
            raise self.refused(403, "The from address does not match a verified Sender Identity.", "from")
        personalizations = body.get("personalizations")
        if not isinstance(personalizations, list) or not 1 <= len(personalizations) <= 1000:
            raise self.refused(400, "The personalizations field is required and must have 1 to 1000 objects.", "")
        self._check_content(body)
        self.check_headers(body.get("headers", {}), forbidden=self._RESERVED)
        return [self._personalization(item, body, sender) for item in personalizations]

    def _personalization(self, item: dict[str, Any], body: dict[str, Any], sender: str) -> Outgoing:
        if not item.get("to"):
            raise self.refused(400, "The to array is required for all personalization objects.", "personalizations")
        recipients = [self._address(held, kind) for kind in ("to", "cc", "bcc") for held in item.get(kind, ())]
        if len({address.lower() for address in recipients}) < len(recipients):
            raise self.refused(400, "Each email address in the personalization block should be unique.")
        if not (item.get("subject") or body.get("subject") or body.get("template_id")):
            raise self.refused(400, "The subject is required.", "subject")
        custom = body.get("custom_args", {}) | item.get("custom_args", {})
        if not all(isinstance(value, str) for value in custom.values()) or len(orjson.dumps(custom)) > 10_000:
            raise self.refused(400, "Bad Request")
        if any(not isinstance(value, str | None) for value in item.get("substitutions", {}).values()):
            raise self.refused(400, "Bad Request")
        headers = body.get("headers", {}) | item.get("headers", {})
        self.check_headers(headers, forbidden=self._RESERVED)
        return Outgoing(
            self.name, sender, tuple(recipients), item.get("subject") or body.get("subject", ""), dict(custom),
            list(body.get("categories", ())), dict(headers),
        )  # fmt: skip

    def _check_content(self, body: dict[str, Any]) -> None:
        content = body.get("content", [])
        if not content and not body.get("template_id"):
            raise self.refused(400, "The content value must be a string at least one character in length.", "content")
        order = {"text/plain": 0, "text/html": 1}
        kinds = [order.get(part.get("type"), 2) for part in content]
        if kinds != sorted(kinds):
            raise self.refused(400, "If present, text/plain and text/html may only be provided once, in this order.")
        if not all(isinstance(part.get("value"), str) and part["value"] for part in content):
            raise self.refused(400, "The content value must be a string at least one character in length.", "content")
        for part in body.get("attachments", ()):
            self.check_attachment(part.get("content"), part.get("filename"))
            if re.search(r"[;\r\n]", str(part.get("type", ""))) and "charset" not in part["type"]:
                raise self.refused(400, "The attachment type cannot contain ';' or CRLF.")
        categories = body.get("categories", [])
        if len(categories) > 10 or len(set(categories)) < len(categories):
            raise self.refused(400, "Categories: at most 10, each once.")

    def _address(self, value: Any, kind: str) -> str:
        address = value.get("email") if isinstance(value, dict) else None
        if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            raise self.refused(400, "Does not contain a valid address.", f"{kind}.email")
        return address

    def accepted(self, path: bytes, messages: list[Outgoing]) -> Answer:
        request_id = secrets.token_urlsafe(16)
        for number, message in enumerate(messages):
            message.message_id = f"{request_id}.recvd-sandbox-{number}"
        return Answer(202, ((b"x-message-id", request_id.encode()),))

    def error(self, status: int, text: str, reason: str = "") -> Answer:
        held = {"message": text, "field": reason or None, "help": None}
        return Answer(status, (JSON,), orjson.dumps({"errors": [held]}))


class Mailgun(Api):
    """Messages, `POST /v3/<domain>/messages`."""

    name = "mailgun"
    prefix = b"/mailgun/v3/"
    max_bytes = 25 * 1024 * 1024
    _PATH = re.compile(rb"([^/]+)/messages")

    def knows(self, path: bytes) -> bool:
        return self._PATH.fullmatch(path) is not None

    def authenticate(self, request: Request) -> EspAccount:
        user, key = basic_auth(request)
        if user != "api":
            raise self.unauthorized()
        return self.by_key(key)

    def unauthorized(self) -> RefusedError:
        return RefusedError(Answer(401, (TEXT,), b"Forbidden"), "Forbidden")

    def messages(self, path: bytes, request: Request, account: EspAccount) -> list[Outgoing]:
        match = self._PATH.fullmatch(path)
        assert match is not None
        domain = unquote(match[1].decode())
        if domain.lower() not in account.domains:
            raise self.refused(404, f"Domain not found: {domain}")
        form, files = form_of(request)
        fields = dict(form)
        for name in ("from", "to"):
            if not fields.get(name):
                raise self.refused(400, f"{name} parameter is missing")
        if not any(fields.get(name) for name in ("text", "html", "template", "amp-html")):
            raise self.refused(
                400, "Need at least one of 'text', 'html', 'amp-html' or 'template' parameters specified"
            )
        senders = addresses_of(fields["from"])
        if len(senders) != 1:
            raise self.refused(400, "from parameter is not a valid address. please check documentation")
        everybody = [address for name, value in form if name in ("to", "cc", "bcc") for address in addresses_of(value)]
        if not everybody or not all(map(_ADDRESS.fullmatch, everybody)):
            raise self.refused(400, "to parameter is not a valid address. please check documentation")
        if len(everybody) > 1000:
            raise self.refused(400, "to parameter: at most 1000 recipients")
        self.check_headers({name[2:]: value for name, value in form if name.startswith("h:")})
        for kind, name, _ in files:
            if kind not in ("attachment", "inline") or not name:
                raise self.refused(400, f"{kind}: unknown file parameter")
        return self._outgoing(form, fields, senders[0], everybody)

    def _outgoing(
        self, form: list[tuple[str, str]], fields: dict[str, str], sender: str, everybody: list[str]
    ) -> list[Outgoing]:
        """With recipient-variables each address of `to` is a message of its own."""
        try:
            variables = orjson.loads(fields.get("recipient-variables") or "null")
        except ValueError:
            raise self.refused(400, "recipient-variables is not valid JSON") from None
        metadata = {name[2:]: value for name, value in form if name.startswith("v:")}
        headers = {name[2:]: value for name, value in form if name.startswith("h:")}
        tags = [value for name, value in form if name == "o:tag"]

        def outgoing(recipients: tuple[str, ...], own: Mapping[str, Any]) -> Outgoing:
            def filled(value: str) -> str:
                return re.sub(r"%recipient\.([^%]+)%", lambda found: str(own.get(found[1], "")), value)

            return Outgoing(
                self.name, sender, recipients, filled(fields.get("subject", "")),
                {name: filled(value) for name, value in metadata.items()}, tags,
                {name: filled(value) for name, value in headers.items()},
            )  # fmt: skip

        if variables is None:
            return [outgoing(tuple(everybody), {})]
        return [outgoing((address,), variables.get(address, {})) for address in everybody]

    def accepted(self, path: bytes, messages: list[Outgoing]) -> Answer:
        domain = path.partition(b"/")[0].decode()
        message_id = f"<{datetime.now(UTC):%Y%m%d%H%M%S}.{secrets.token_hex(8)}@{domain}>"
        for message in messages:
            message.message_id = message_id
        return Answer(200, (JSON,), orjson.dumps({"id": message_id, "message": "Queued. Thank you."}))

    def error(self, status: int, text: str, reason: str = "") -> Answer:
        return Answer(status, (JSON,), orjson.dumps({"message": text}))


class Postmark(Api):
    """`POST /email`, `POST /email/batch`."""

    name = "postmark"
    prefix = b"/postmark/"
    max_bytes = 50 * 1024 * 1024
    account_path = b"server"
    _FIELDS = frozenset((
        "From", "To", "Cc", "Bcc", "Subject", "Tag", "HtmlBody", "TextBody", "ReplyTo", "Headers", "TrackOpens",
        "TrackLinks", "Attachments", "Metadata", "MessageStream",
    ))  # fmt: skip
    _FILES = re.compile(
        r"\.(vbs|exe|bin|bat|chm|com|cpl|crt|hlp|hta|inf|ins|isp|jse?|lnk|mdb|ms[cipt]|pif|reg|sc[rt]|sh[sb]|ws[cfh]?)$",
        re.IGNORECASE,
    )

    def account(self, account: EspAccount) -> dict[str, Any]:
        return {"ID": 1, "Name": "Sandbox server", "SmtpApiActivated": True, "DeliveryType": "Live"}

    def knows(self, path: bytes) -> bool:
        return path in (b"email", b"email/batch")

    def authenticate(self, request: Request) -> EspAccount:
        token = request.headers.get(b"x-postmark-server-token", b"").decode("latin-1")
        if request.headers.get(b"accept") != b"application/json":
            raise self.refused(406, "Accept: application/json is required")
        return self.by_key(token)

    def unauthorized(self) -> RefusedError:
        return self.refused(401, "Request does not contain a valid Server token.", "10")

    def messages(self, path: bytes, request: Request, account: EspAccount) -> list[Outgoing]:
        body = self.body_of(request)
        if path == b"email":
            return [self._message(body, account)]
        if not isinstance(body, list) or len(body) > 500:
            raise self.refused(422, "Batches take at most 500 messages.", "410")
        return [self._message(item, account) for item in body]

    def _message(self, body: dict[str, Any], account: EspAccount) -> Outgoing:
        unknown = set(body) - self._FIELDS
        if unknown:
            raise self.refused(422, f"Unknown field {sorted(unknown)[0]}", "402")
        senders = addresses_of(str(body.get("From", "")))
        if len(senders) != 1:
            raise self.refused(422, f"Invalid 'From' address: '{body.get('From', '')}'.", "300")
        if not self.is_verified(senders[0], account):
            text = f"The 'From' address you supplied ({senders[0]}) is not a Sender Signature on your account."
            raise self.refused(422, text, "400")
        recipients = [address for kind in ("To", "Cc", "Bcc") for address in addresses_of(body.get(kind) or "")]
        for address in recipients:
            if not _ADDRESS.fullmatch(address):
                raise self.refused(422, f"Invalid 'To' address: '{address}'.", "300")
        if not recipients or len(recipients) > 50:
            raise self.refused(422, "Zero recipients specified" if not recipients else "Too many recipients", "300")
        if not body.get("HtmlBody") and not body.get("TextBody"):
            raise self.refused(422, "Provide either email TextBody or HtmlBody or both.", "300")
        headers = {held.get("Name"): held.get("Value") for held in body.get("Headers", ())}
        if len(headers) < len(body.get("Headers", ())):
            raise self.refused(422, "Invalid headers: repeated", "300")
        self.check_headers(headers, status=422)
        for part in body.get("Attachments", ()):
            self.check_attachment(part.get("Content"), part.get("Name"), status=422)
            if self._FILES.search(part["Name"]):
                raise self.refused(422, f"Forbidden attachment type: {part['Name']}", "300")
        metadata = body.get("Metadata", {})
        if len(metadata) > 10 or not all(isinstance(value, str) and len(value) <= 80 for value in metadata.values()):
            raise self.refused(422, "Invalid metadata content.", "300")
        return Outgoing(
            self.name, senders[0], tuple(recipients), body.get("Subject") or "", dict(metadata),
            [body["Tag"]] if body.get("Tag") else [], headers, inactive="+inactive@" in recipients[0],
        )  # fmt: skip

    def accepted(self, path: bytes, messages: list[Outgoing]) -> Answer:
        answers = [self._taken(message) for message in messages]
        if path == b"email":
            return Answer(422 if messages[0].inactive else 200, (JSON,), orjson.dumps(answers[0]))
        return Answer(200, (JSON,), orjson.dumps(answers))

    def _taken(self, message: Outgoing) -> dict[str, Any]:
        to = ", ".join(message.recipients)
        if message.inactive:
            text = (
                "You tried to send to recipient(s) that have been marked as inactive. "
                f"Found inactive addresses: {to}. Inactive recipients are ones that have generated a hard bounce, "
                "a spam complaint, or a manual suppression."
            )
            return {"ErrorCode": 406, "Message": text}
        message.message_id = str(uuid.uuid4())
        submitted = datetime.now(UTC).isoformat()
        return {"To": to, "SubmittedAt": submitted, "MessageID": message.message_id, "ErrorCode": 0, "Message": "OK"}

    def error(self, status: int, text: str, reason: str = "") -> Answer:
        code = int(reason) if reason.isdigit() else {401: 10, 429: 429, 503: 100}.get(status, 300)
        return Answer(status, (JSON,), orjson.dumps({"ErrorCode": code, "Message": text}))


class Brevo(Api):
    """`POST /v3/smtp/email`."""

    name = "brevo"
    prefix = b"/brevo/v3/"
    max_bytes = 20 * 1024 * 1024
    account_path = b"account"
    _FIELDS = frozenset((
        "sender", "to", "cc", "bcc", "replyTo", "subject", "htmlContent", "textContent", "templateId", "headers",
        "params", "attachment", "tags", "messageVersions", "scheduledAt", "batchId", "preheader",
    ))  # fmt: skip

    def account(self, account: EspAccount) -> dict[str, Any]:
        return {"email": "shop@example.com", "companyName": "Sandbox shop", "plan": []}

    def knows(self, path: bytes) -> bool:
        return path == b"smtp/email"

    def authenticate(self, request: Request) -> EspAccount:
        return self.by_key(request.headers.get(b"api-key", b"").decode("latin-1"))

    def unauthorized(self) -> RefusedError:
        return self.refused(401, "Key not found", "unauthorized")

    def messages(self, path: bytes, request: Request, account: EspAccount) -> list[Outgoing]:
        body = self.body_of(request)
        unknown = set(body) - self._FIELDS
        if unknown:
            raise self.refused(400, f"{sorted(unknown)[0]} is not supported", "invalid_parameter")
        sender = self._address(body.get("sender"), "sender")
        if not self.is_verified(sender, account):
            raise self.refused(400, f"Sending has been rejected because the sender you used {sender} is not valid.")
        for name in ("subject", "htmlContent"):
            alternative = body.get("templateId") or (name == "htmlContent" and body.get("textContent"))
            if not body.get(name) and not alternative:
                raise self.refused(400, f"{name} is missing", "missing_parameter")
        self.check_headers(body.get("headers", {}))
        for part in body.get("attachment", ()):
            self.check_attachment(part.get("content"), part.get("name"))
        versions = body.get("messageVersions") or [{"to": body.get("to"), "cc": body.get("cc"), "bcc": body.get("bcc")}]
        if len(versions) > 1000:
            raise self.refused(400, "messageVersions: at most 1000", "invalid_parameter")
        return [self._version(version, body, sender) for version in versions]

    def _version(self, version: dict[str, Any], body: dict[str, Any], sender: str) -> Outgoing:
        if not version.get("to"):
            raise self.refused(400, "to is missing", "missing_parameter")
        recipients = [self._address(held, kind) for kind in ("to", "cc", "bcc") for held in version.get(kind) or ()]
        headers = body.get("headers", {}) | version.get("headers", {})
        self.check_headers(headers)
        try:
            metadata = orjson.loads(headers.get("X-Mailin-custom") or "{}")
        except ValueError:
            metadata = {}
        tags = list(body.get("tags", ()))
        return Outgoing(self.name, sender, tuple(recipients), body.get("subject", ""), metadata, tags, headers)

    def _address(self, value: Any, kind: str) -> str:
        address = value.get("email") if isinstance(value, dict) else None
        if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            raise self.refused(400, f"email is not valid in {kind}", "invalid_parameter")
        return address

    def accepted(self, path: bytes, messages: list[Outgoing]) -> Answer:
        for message in messages:
            message.message_id = f"<{datetime.now(UTC):%Y%m%d%H%M}.{secrets.randbelow(10**11)}@smtp-relay.sandbox.test>"
        ids = [message.message_id for message in messages]
        return Answer(201, (JSON,), orjson.dumps({"messageId": ids[0]} if len(ids) == 1 else {"messageIds": ids}))

    def error(self, status: int, text: str, reason: str = "") -> Answer:
        code = reason if reason and " " not in reason else {429: "too_many_requests"}.get(status, "invalid_parameter")
        return Answer(status, (JSON,), orjson.dumps({"code": code, "message": text}))


class Resend(Api):
    """`POST /emails`, `POST /emails/batch`."""

    name = "resend"
    prefix = b"/resend/"
    max_bytes = 40 * 1024 * 1024
    account_path = b"domains"
    _FIELDS = frozenset((
        "from", "to", "cc", "bcc", "subject", "reply_to", "html", "text", "headers", "attachments", "tags",
        "scheduled_at",
    ))  # fmt: skip

    def account(self, account: EspAccount) -> dict[str, Any]:
        rows = [{"id": domain, "name": domain, "status": "verified"} for domain in sorted(account.domains)]
        return {"object": "list", "has_more": False, "data": rows}

    def knows(self, path: bytes) -> bool:
        return path in (b"emails", b"emails/batch")

    def authenticate(self, request: Request) -> EspAccount:
        scheme, _, key = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme != "Bearer":
            raise self.refused(401, "Missing API key in the authorization header", "missing_api_key")
        if b"user-agent" not in request.headers:
            raise self.refused(403, "The request is missing a user-agent header.", "invalid_user_agent")
        return self.by_key(key)

    def unauthorized(self) -> RefusedError:
        return self.refused(403, "API key is invalid", "invalid_api_key")

    def messages(self, path: bytes, request: Request, account: EspAccount) -> list[Outgoing]:
        body = self.body_of(request)
        if path == b"emails":
            return [self._message(body, account)]
        if not isinstance(body, list) or not 1 <= len(body) <= 100:
            raise self.refused(422, "Batches take 1 to 100 messages.", "validation_error")
        return [self._message(item, account, is_batch=True) for item in body]

    def _message(self, body: dict[str, Any], account: EspAccount, *, is_batch: bool = False) -> Outgoing:
        unknown = set(body) - self._FIELDS
        if unknown or (is_batch and ("attachments" in body or "scheduled_at" in body)):
            raise self.refused(422, f"Unknown field `{(sorted(unknown) or ['attachments'])[0]}`", "validation_error")
        for name in ("from", "to", "subject"):
            if not body.get(name):
                raise self.refused(422, f"Missing `{name}` field.", "missing_required_field")
        senders = addresses_of(body["from"])
        if len(senders) != 1 or not _ADDRESS.fullmatch(senders[0]):
            raise self.refused(422, "Invalid `from` field.", "invalid_from_address")
        if not self.is_verified(senders[0], account):
            domain = senders[0].rpartition("@")[2]
            raise self.refused(403, f"The {domain} domain is not verified.", "validation_error")
        recipients = [
            address
            for kind in ("to", "cc", "bcc")
            for held in _listed(body.get(kind))
            for address in addresses_of(held)
        ]
        if len(_listed(body["to"])) > 50 or not all(map(_ADDRESS.fullmatch, recipients)):
            raise self.refused(422, "Invalid `to` field.", "validation_error")
        if not body.get("html") and not body.get("text"):
            raise self.refused(422, "Missing `html` or `text` field.", "missing_required_field")
        self.check_headers(body.get("headers", {}), status=422)
        for part in body.get("attachments", ()):
            self.check_attachment(part.get("content"), part.get("filename"), status=422)
        return Outgoing(
            self.name, body["from"], tuple(recipients), body["subject"], {}, [], dict(body.get("headers", {}))
        )

    def accepted(self, path: bytes, messages: list[Outgoing]) -> Answer:
        for message in messages:
            message.message_id = str(uuid.uuid4())
        ids = [{"id": message.message_id} for message in messages]
        return Answer(200, (JSON,), orjson.dumps(ids[0] if path == b"emails" else {"data": ids}))

    def error(self, status: int, text: str, reason: str = "") -> Answer:
        names = {429: "rate_limit_exceeded", 500: "internal_server_error", 404: "not_found"}
        name = reason if reason and " " not in reason else names.get(status, "validation_error")
        return Answer(status, (JSON,), orjson.dumps({"statusCode": status, "message": text, "name": name}))


class Ses(Api):
    """Amazon SES v2, `POST /v2/email/outbound-emails` with a raw message; requests are signed (Signature Version 4)."""

    name = "ses"
    prefix = b"/ses/v2/email/"
    max_bytes = 55 * 1024 * 1024
    account_path = b"account"
    _SCOPE = re.compile(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/ses/aws4_request, "
        r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
    )
    _FIELDS = frozenset((
        "FromEmailAddress", "Destination", "Content", "ConfigurationSetName", "EmailTags", "ReplyToAddresses",
        "FeedbackForwardingEmailAddress", "FromEmailAddressIdentityArn", "ListManagementOptions", "EndpointId",
    ))  # fmt: skip

    def account(self, account: EspAccount) -> dict[str, Any]:
        return {"SendingEnabled": True, "ProductionAccessEnabled": True, "EnforcementStatus": "HEALTHY"}

    def knows(self, path: bytes) -> bool:
        return path == b"outbound-emails"

    def authenticate(self, request: Request) -> EspAccount:
        scope = self._SCOPE.fullmatch(request.headers.get(b"authorization", b"").decode("latin-1"))
        if scope is None:
            raise self.refused(403, "Missing Authentication Token", "MissingAuthenticationTokenException")
        key_id, day, region, names, signature = scope.groups()
        account = next((held for held in self.accounts if held.key_id == key_id), None)
        if account is None:
            raise self.refused(
                403, "The security token included in the request is invalid.", "UnrecognizedClientException"
            )
        if not hmac.compare_digest(_aws_signature(request, account.api_key, day, region, names), signature):
            text = "The request signature we calculated does not match the signature you provided."
            raise self.refused(403, text, "SignatureDoesNotMatch")
        return account

    def messages(self, path: bytes, request: Request, account: EspAccount) -> list[Outgoing]:
        body = self.body_of(request)
        unknown = set(body) - self._FIELDS
        if unknown or not isinstance(body.get("Content"), dict):
            raise self.refused(400, "Invalid request", "BadRequestException")
        try:
            content = base64.b64decode(body["Content"]["Raw"]["Data"], validate=True)
        except (KeyError, TypeError, ValueError):
            raise self.refused(400, "Content.Raw.Data is required, in base64", "BadRequestException") from None
        content = re.sub(rb"\r?\n", b"\r\n", content)
        mail = read_mail(content)
        if isinstance(mail, str):
            raise self.refused(400, mail[4:], "BadRequestException")
        complete = b"".join(
            (b"" if "date" in mail.headers else b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n",
             b"" if "message-id" in mail.headers else b"Message-ID: <added@email.amazonses.com>\r\n", content)
        )  # fmt: skip  # SES adds both
        whole = read_mail(complete)
        assert not isinstance(whole, str)
        refusal = why_refused(whole, complete, domains=account.domains, eight_bit=False, utf8=False)
        if "is not verified" in refusal:
            text = f"Email address is not verified. The following identities failed the check: {mail.authors[0]}"
            raise self.refused(400, text, "MessageRejected")
        if refusal:
            raise self.refused(400, refusal[4:], "BadRequestException")
        destination = body.get("Destination", {})
        recipients = [address for kind in ("To", "Cc", "Bcc") for address in destination.get(f"{kind}Addresses", ())]
        if not recipients or len(recipients) > 50 or not all(map(_ADDRESS.fullmatch, recipients)):
            raise self.refused(400, "Destination: 1 to 50 valid addresses", "BadRequestException")
        parsed = message_from_bytes(content, policy=policy.default)
        headers = {name: str(value) for name, value in parsed.items()}
        try:
            metadata = orjson.loads(headers.get("X-Metadata", "{}"))
        except ValueError:
            metadata = {}
        tags = [str(value) for value in parsed.get_all("X-Tag", [])]
        return [
            Outgoing(self.name, mail.authors[0], tuple(recipients), str(parsed["Subject"]), metadata, tags, headers)
        ]

    def accepted(self, path: bytes, messages: list[Outgoing]) -> Answer:
        message_id = f"{secrets.token_hex(8)}-{uuid.uuid4()}-000000"
        for message in messages:
            message.message_id = message_id
        return Answer(200, (JSON,), orjson.dumps({"MessageId": message_id}))

    def error(self, status: int, text: str, reason: str = "") -> Answer:
        names = {429: "TooManyRequestsException", 404: "NotFoundException", 500: "InternalFailure"}
        name = reason if reason.isalpha() else names.get(status, "BadRequestException")
        headers = (JSON, (b"x-amzn-errortype", name.encode()), (b"x-amzn-requestid", str(uuid.uuid4()).encode()))
        return Answer(status, headers, orjson.dumps({"message": text}))


def _aws_signature(request: Request, secret: str, day: str, region: str, names: str) -> str:
    """Signature Version 4 of a request without a query."""
    lines = "".join(
        f"{name}:{request.headers.get(name.encode(), b'').decode('latin-1')}\n" for name in names.split(";")
    )
    digest = hashlib.sha256(request.body).hexdigest()
    canonical = f"{request.method.decode()}\n{request.path.decode()}\n\n{lines}\n{names}\n{digest}"
    moment = request.headers.get(b"x-amz-date", b"").decode("latin-1")
    hashed = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{day}/{region}/ses/aws4_request\n{hashed}"
    key = f"AWS4{secret}".encode()
    for part in (day, region, "ses", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def basic_auth(request: Request) -> tuple[str, str]:
    """User and password of a request; empty when it has none."""
    scheme, _, encoded = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return user, password


def form_of(request: Request) -> tuple[list[tuple[str, str]], list[tuple[str, str, bytes]]]:
    """Fields and files (field, name, content) of a form, of either encoding."""
    kind = request.headers.get(b"content-type", b"")
    if not kind.startswith(b"multipart/form-data"):
        return parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True), []
    message = message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + request.body, policy=policy.HTTP)
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, str, bytes]] = []
    for part in message.iter_parts():
        content = part.get_payload(decode=True) or b""
        assert isinstance(content, bytes)
        name = str(part.get_param("name", "", header="content-disposition"))
        if part.get_filename() is not None:
            files.append((name, part.get_filename() or "", content))
        else:
            fields.append((name, content.decode("utf-8", "replace")))
    return fields, files


def addresses_of(text: str) -> list[str]:
    """The bare addresses of a header's text."""
    return [address for _, address in getaddresses([text]) if address]


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


APIS: tuple[type[Api], ...] = (SendGrid, Mailgun, Postmark, Brevo, Resend, Ses)
