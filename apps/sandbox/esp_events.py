"""What e-mail providers tell by webhook, in their own words and with their own signatures.

`event_of` makes one event of a message, `signed` the request that carries it. Both are plain functions: a test may make
a request without any process, and let it be forged, old or repeated.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from apps.sandbox.esp_apis import Outgoing

EVENTS = (
    "delivered", "bounced", "soft-bounced", "complained", "opened", "clicked", "unsubscribed", "rejected", "deferred",
)  # fmt: skip
USER_AGENT = "Mozilla/5.0 (sandbox)"
LINK = "https://shop.example.com/sale"
TOPIC = "arn:aws:sns:ap-northeast-2:123456789012:ses-events"
_HARD = "550 5.1.1 The email account that you tried to reach does not exist"
_SOFT = "452 4.2.2 The email account that you tried to reach is over quota"
_LATER = "451 4.3.0 Temporary lookup failure"
_TAKEN = "250 2.0.0 OK"


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A request as the provider would post it."""

    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Hook:
    """Where a provider's events go, and the secrets that sign them: those that are not given are made.

    `basic_auth` is `user:password` (Postmark, Brevo, and beside a signature elsewhere); `signing_key` is of Mailgun and
    Resend.
    """

    esp: str
    url: str = ""
    basic_auth: str = ""
    signing_key: str = ""
    certificate_url: str = ""
    signature_version: str = "1"
    _key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.esp == "sendgrid":
            self._key = ec.generate_private_key(ec.SECP256R1())
        elif self.esp == "ses":
            self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        elif self.esp == "mailgun":
            self.signing_key = self.signing_key or secrets.token_hex(16)
        elif self.esp == "resend":
            self.signing_key = self.signing_key or "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        elif not self.basic_auth:
            self.basic_auth = f"sandbox:{secrets.token_urlsafe(16)}"

    @property
    def ec_key(self) -> ec.EllipticCurvePrivateKey:
        assert isinstance(self._key, ec.EllipticCurvePrivateKey)
        return self._key

    @property
    def rsa_key(self) -> rsa.RSAPrivateKey:
        assert isinstance(self._key, rsa.RSAPrivateKey)
        return self._key

    @property
    def public_key(self) -> str:
        """SendGrid's verification key: base64 of the DER form."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return base64.b64encode(self.ec_key.public_key().public_bytes(serialization.Encoding.DER, form)).decode()

    def certificate(self) -> bytes:
        """SNS' certificate in PEM, as `SigningCertURL` gives it."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.rsa_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=365))
            .sign(self.rsa_key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    def secrets(self) -> dict[str, str]:
        """What the receiver has to know to check the signatures."""
        known = {"basic_auth": self.basic_auth, "signing_key": self.signing_key}
        if self.esp == "sendgrid":
            known["public_key"] = self.public_key
        elif self.esp == "ses":
            known |= {"certificate_url": self.certificate_url, "topic_arn": TOPIC}
        return {name: value for name, value in known.items() if value}


def event_of(event: str, message: Outgoing, recipient: str, *, at: float, **changes: Any) -> dict[str, Any]:
    """One event in the provider's words; `changes` replace its fields. Raises ValueError where it has none such."""
    if event not in EVENTS:
        raise ValueError(f"event: one of {', '.join(EVENTS)}")
    return _WORDS[message.esp](event, message, recipient, at) | changes


def signed(hook: Hook, events: Sequence[dict[str, Any]], *, at: float, is_forged: bool = False) -> WebhookRequest:
    """The request that carries the events (more than one: SendGrid alone). `at`: when it is signed, epoch seconds."""
    request = _SIGNERS[hook.esp](hook, events, at)
    if hook.basic_auth:
        encoded = base64.b64encode(hook.basic_auth.encode()).decode()
        request.headers["Authorization"] = f"Basic {encoded}"
    return _forged(hook, request) if is_forged else request


def subscription_confirmation(hook: Hook, subscribe_url: str, *, at: float) -> WebhookRequest:
    """SNS' first request to an address: it wants `SubscribeURL` to be fetched."""
    envelope = {
        "Type": "SubscriptionConfirmation",
        "MessageId": str(uuid.uuid4()),
        "Token": secrets.token_hex(32),
        "TopicArn": TOPIC,
        "Message": f"You have chosen to subscribe to the topic {TOPIC}.\nTo confirm, visit the SubscribeURL.",
        "SubscribeURL": subscribe_url,
        "Timestamp": _iso(at),
    }
    return _sns(hook, envelope, ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"))


def _forged(hook: Hook, request: WebhookRequest) -> WebhookRequest:
    """The same request with a word changed after signing, or without the password where that is all there is."""
    if hook.esp in ("postmark", "brevo"):
        wrong = base64.b64encode(b"sandbox:wrong").decode()
        return WebhookRequest(request.headers | {"Authorization": f"Basic {wrong}"}, request.body)
    if hook.esp == "mailgun":
        body = json.loads(request.body)
        body["signature"]["token"] = secrets.token_hex(25)
        return WebhookRequest(request.headers, json.dumps(body).encode())
    return WebhookRequest(request.headers, request.body.replace(b"@", b"@forged.", 1))


# events, by provider


def _sendgrid(event: str, message: Outgoing, recipient: str, at: float) -> dict[str, Any]:
    """https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event"""
    own: dict[str, dict[str, Any]] = {
        "delivered": {"event": "delivered", "response": _TAKEN},
        "bounced": {"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": _HARD,
                    "bounce_classification": "Invalid Address"},
        "soft-bounced": {"event": "bounce", "type": "blocked", "status": "4.2.2", "reason": _SOFT,
                         "bounce_classification": "Mailbox Unavailable"},
        "complained": {"event": "spamreport"},
        "opened": {"event": "open", "useragent": USER_AGENT, "ip": "192.0.2.1", "sg_machine_open": False},
        "clicked": {"event": "click", "useragent": USER_AGENT, "ip": "192.0.2.1", "url": LINK,
                    "url_offset": {"index": 0, "type": "html"}},
        "unsubscribed": {"event": "unsubscribe"},
        "rejected": {"event": "dropped", "reason": "Bounced Address", "status": "5.0.0"},
        "deferred": {"event": "deferred", "response": _LATER, "attempt": "2"},
    }  # fmt: skip
    common = {
        "email": recipient,
        "timestamp": int(at),
        "smtp-id": f"<{message.message_id}@geopod-ismtpd-0>",
        "sg_event_id": secrets.token_urlsafe(16),
        "sg_message_id": message.message_id,
    }
    tags = {"category": message.tags} if message.tags else {}
    return message.metadata | common | tags | own[event]


def _mailgun(event: str, message: Outgoing, recipient: str, at: float) -> dict[str, Any]:
    """https://documentation.mailgun.com/docs/mailgun/user-manual/events/event-structure"""
    message_id = message.message_id.strip("<>")

    def failed(severity: str, reason: str, code: int, enhanced: str, text: str) -> dict[str, Any]:
        status = {"code": code, "enhanced-code": enhanced, "message": text, "description": "", "attempt-no": 1,
                  "mx-host": "mx.example.net", "session-seconds": 0.1, "tls": True}  # fmt: skip
        return {
            "event": "failed",
            "severity": severity,
            "reason": reason,
            "delivery-status": status,
            "log-level": "error",
        }

    client = {"client-info": {"client-type": "browser", "user-agent": USER_AGENT}, "ip": "192.0.2.1"}
    own: dict[str, dict[str, Any]] = {
        "delivered": {"event": "delivered", "log-level": "info",
                      "delivery-status": {"code": 250, "message": "OK", "description": "", "attempt-no": 1}},
        "bounced": failed("permanent", "bounce", 550, "5.1.1", _HARD),
        "soft-bounced": failed("permanent", "generic", 452, "4.2.2", _SOFT),
        "complained": {"event": "complained", "log-level": "warn"},
        "opened": {"event": "opened", "log-level": "info", **client},
        "clicked": {"event": "clicked", "log-level": "info", "url": LINK, **client},
        "unsubscribed": {"event": "unsubscribed", "log-level": "warn", **client},
        "rejected": {"event": "rejected", "log-level": "warn",
                     "reject": {"reason": "Sending is not permitted", "description": ""}},
        "deferred": failed("temporary", "generic", 451, "4.3.0", _LATER),
    }  # fmt: skip
    headers = {"to": recipient, "message-id": message_id, "from": message.sender, "subject": message.subject}
    return {
        "id": secrets.token_urlsafe(16),
        "timestamp": at,
        "recipient": recipient,
        "recipient-domain": recipient.rpartition("@")[2],
        "message": {"headers": headers, "attachments": [], "size": 1024},
        "user-variables": dict(message.metadata),
        "tags": message.tags,
        "campaigns": [],
        **own[event],
    }


def _postmark(event: str, message: Outgoing, recipient: str, at: float) -> dict[str, Any]:
    """https://postmarkapp.com/developer/webhooks/webhooks-overview"""
    moment = _iso(at)

    def bounce(kind: str, code: int, name: str, text: str, *, record: str = "Bounce") -> dict[str, Any]:
        return {
            "RecordType": record, "ID": secrets.randbelow(10**9), "Type": kind, "TypeCode": code, "Name": name,
            "Email": recipient, "From": message.sender, "BouncedAt": moment, "Details": text, "Description": name,
            "DumpAvailable": False, "Inactive": kind in ("HardBounce", "SpamComplaint"), "CanActivate": True,
            "Subject": message.subject, "Content": "",
        }  # fmt: skip

    client = {"Client": {"Name": "sandbox"}, "OS": {}, "Platform": "Desktop", "UserAgent": USER_AGENT, "Geo": {},
              "Recipient": recipient, "ReceivedAt": moment}  # fmt: skip
    own: dict[str, dict[str, Any]] = {
        "delivered": {"RecordType": "Delivery", "Recipient": recipient, "DeliveredAt": moment, "Details": _TAKEN},
        "bounced": bounce("HardBounce", 1, "Hard bounce", f"smtp;{_HARD}"),
        "soft-bounced": bounce("SoftBounce", 4096, "Soft bounce", f"smtp;{_SOFT}"),
        "complained": bounce("SpamComplaint", 100001, "Spam complaint", "", record="SpamComplaint"),
        "opened": {"RecordType": "Open", "FirstOpen": True, **client},
        "clicked": {"RecordType": "Click", "ClickLocation": "HTML", "OriginalLink": LINK, **client},
        "unsubscribed": {"RecordType": "SubscriptionChange", "ChangedAt": moment, "Origin": "Recipient",
                         "Recipient": recipient, "SuppressSending": True, "SuppressionReason": "ManualSuppression"},
        "rejected": bounce("Blocked", 100006, "ISP block", "smtp;554 5.7.1 Blocked"),
        "deferred": bounce("Transient", 2, "Message delayed", f"smtp;{_LATER}"),
    }  # fmt: skip
    common = {
        "MessageID": message.message_id, "ServerID": 23, "MessageStream": "outbound",
        "Metadata": dict(message.metadata), "Tag": (message.tags or [""])[0],
    }  # fmt: skip
    return common | own[event]


def _brevo(event: str, message: Outgoing, recipient: str, at: float) -> dict[str, Any]:
    """https://developers.brevo.com/docs/transactional-webhooks"""
    own: dict[str, dict[str, Any]] = {
        "delivered": {"event": "delivered"},
        "bounced": {"event": "hard_bounce", "reason": _HARD},
        "soft-bounced": {"event": "soft_bounce", "reason": _SOFT},
        "complained": {"event": "spam"},
        "opened": {"event": "unique_opened", "user_agent": USER_AGENT},
        "clicked": {"event": "click", "link": LINK, "user_agent": USER_AGENT},
        "unsubscribed": {"event": "unsubscribe"},
        "rejected": {"event": "blocked", "reason": "blocked : due to blacklist user"},
        "deferred": {"event": "deferred", "reason": _LATER},
    }
    common = {
        "id": secrets.randbelow(10**6), "email": recipient, "message-id": message.message_id,
        "subject": message.subject, "ts": int(at), "ts_event": int(at), "ts_epoch": int(at * 1000),
        "sending_ip": "192.0.2.10", "date": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "sender_email": message.sender,
    }  # fmt: skip
    custom = message.headers.get("X-Mailin-custom")
    return common | ({"X-Mailin-custom": custom} if custom else {}) | {"tags": message.tags} | own[event]


def _resend(event: str, message: Outgoing, recipient: str, at: float) -> dict[str, Any]:
    """https://resend.com/docs/webhooks/event-types"""
    general = "The recipient's email provider sent a {} bounce message."
    own: dict[str, tuple[str, dict[str, Any]]] = {
        "delivered": ("email.delivered", {}),
        "bounced": ("email.bounced", {"bounce": {
            "type": "Permanent", "subType": "General", "message": general.format("hard"), "diagnosticCode": [_HARD]}}),
        "soft-bounced": ("email.bounced", {"bounce": {
            "type": "Transient", "subType": "MailboxFull", "diagnosticCode": [_SOFT],
            "message": "The recipient's email provider sent a bounce message because the inbox was full."}}),
        "complained": ("email.complained", {}),
        "opened": ("email.opened", {"open": {
            "ipAddress": "192.0.2.1", "timestamp": _iso(at), "userAgent": USER_AGENT}}),
        "clicked": ("email.clicked", {"click": {
            "ipAddress": "192.0.2.1", "link": LINK, "timestamp": _iso(at), "userAgent": USER_AGENT}}),
        "rejected": ("email.bounced", {"bounce": {
            "type": "Permanent", "subType": "Suppressed",
            "message": "Resend has suppressed sending to this address because it has bounced before."}}),
        "deferred": ("email.delivery_delayed", {}),
    }  # fmt: skip
    if event not in own:
        raise ValueError(f"Resend has no event {event} of a message")
    kind, more = own[event]
    data = {
        "email_id": message.message_id, "created_at": _iso(at), "from": message.sender, "to": [recipient],
        "subject": message.subject,
        "headers": [{"name": name, "value": value} for name, value in message.headers.items()],
    }  # fmt: skip
    return {"type": kind, "created_at": _iso(at), "data": data | more}


def _ses(event: str, message: Outgoing, recipient: str, at: float) -> dict[str, Any]:
    """https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html"""
    moment = _iso(at)
    feedback = f"{secrets.token_hex(8)}-{uuid.uuid4()}-000000"

    def bounce(kind: str, subtype: str, status: str, text: str) -> dict[str, Any]:
        bounced = {"emailAddress": recipient, "action": "failed", "status": status, "diagnosticCode": f"smtp; {text}"}
        return {
            "bounceType": kind, "bounceSubType": subtype, "bouncedRecipients": [bounced], "timestamp": moment,
            "feedbackId": feedback, "reportingMTA": "dsn; a8-50.smtp-out.amazonses.com",
        }  # fmt: skip

    client = {"timestamp": moment, "userAgent": USER_AGENT, "ipAddress": "192.0.2.1"}
    own: dict[str, tuple[str, str, dict[str, Any]]] = {
        "delivered": ("Delivery", "delivery", {
            "timestamp": moment, "processingTimeMillis": 500, "recipients": [recipient], "smtpResponse": _TAKEN,
            "reportingMTA": "a8-50.smtp-out.amazonses.com"}),
        "bounced": ("Bounce", "bounce", bounce("Permanent", "General", "5.1.1", _HARD)),
        "soft-bounced": ("Bounce", "bounce", bounce("Transient", "MailboxFull", "4.2.2", _SOFT)),
        "complained": ("Complaint", "complaint", {
            "complainedRecipients": [{"emailAddress": recipient}], "timestamp": moment, "feedbackId": feedback,
            "complaintSubType": None, "userAgent": "AnyCompany Feedback Loop (V0.01)",
            "complaintFeedbackType": "abuse", "arrivalDate": moment}),
        "opened": ("Open", "open", client),
        "clicked": ("Click", "click", {**client, "link": LINK, "linkTags": None}),
        "unsubscribed": ("Subscription", "subscription", {
            "contactList": "list", "timestamp": moment, "source": "UnsubscribeHeader",
            "newTopicPreferences": {"unsubscribeAll": True, "topicSubscriptionStatus": []}}),
        "rejected": ("Reject", "reject", {"reason": "Bad content"}),
        "deferred": ("DeliveryDelay", "deliveryDelay", {
            "timestamp": moment, "delayType": "TransientCommunicationFailure", "expirationTime": _iso(at + 50_000),
            "delayedRecipients": [{"emailAddress": recipient, "status": "4.3.0", "diagnosticCode": _LATER}]}),
    }  # fmt: skip
    kind, name, content = own[event]
    mail = {
        "timestamp": moment, "source": message.sender, "sendingAccountId": "123456789012",
        "messageId": message.message_id, "destination": list(message.recipients), "headersTruncated": False,
        "headers": [{"name": held, "value": value} for held, value in message.headers.items()],
        "commonHeaders": {"from": [message.sender], "to": list(message.recipients), "subject": message.subject},
        "tags": {},
    }  # fmt: skip
    return {"eventType": kind, "mail": mail, name: content}


# signatures, by provider


def _json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _only(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if len(events) != 1:
        raise ValueError("this provider posts one event at a time")
    return events[0]


def _sign_sendgrid(hook: Hook, events: Sequence[dict[str, Any]], at: float) -> WebhookRequest:
    body, timestamp = _json(list(events)), str(int(at))
    signature = hook.ec_key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    headers = {
        "Content-Type": "application/json",
        "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
        "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
    }
    return WebhookRequest(headers, body)


def _sign_mailgun(hook: Hook, events: Sequence[dict[str, Any]], at: float) -> WebhookRequest:
    timestamp, token = str(int(at)), secrets.token_hex(25)
    signature = hmac.new(hook.signing_key.encode(), f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest()
    content = {
        "signature": {"timestamp": timestamp, "token": token, "signature": signature},
        "event-data": _only(events),
    }
    return WebhookRequest({"Content-Type": "application/json"}, _json(content))


def _sign_plain(hook: Hook, events: Sequence[dict[str, Any]], at: float) -> WebhookRequest:
    return WebhookRequest({"Content-Type": "application/json"}, _json(_only(events)))


def _sign_resend(hook: Hook, events: Sequence[dict[str, Any]], at: float) -> WebhookRequest:
    """https://docs.svix.com/receiving/verifying-payloads/how-manual"""
    body, timestamp, number = _json(_only(events)), str(int(at)), f"msg_{secrets.token_hex(12)}"
    key = base64.b64decode(hook.signing_key.removeprefix("whsec_"))
    digest = hmac.new(key, f"{number}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "Content-Type": "application/json",
        "svix-id": number,
        "svix-timestamp": timestamp,
        "svix-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
    return WebhookRequest(headers, body)


def _sign_ses(hook: Hook, events: Sequence[dict[str, Any]], at: float) -> WebhookRequest:
    envelope = {
        "Type": "Notification",
        "MessageId": str(uuid.uuid4()),
        "TopicArn": TOPIC,
        "Subject": "Amazon SES Email Event Notification",
        "Message": json.dumps(_only(events)),
        "Timestamp": _iso(at),
    }
    return _sns(hook, envelope, ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"))


def _sns(hook: Hook, envelope: dict[str, str], names: Sequence[str]) -> WebhookRequest:
    """https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html"""
    text = "".join(f"{name}\n{envelope[name]}\n" for name in names).encode()
    algorithm = hashes.SHA1() if hook.signature_version == "1" else hashes.SHA256()  # noqa: S303  # version 1 is SHA-1
    signature = hook.rsa_key.sign(text, padding.PKCS1v15(), algorithm)
    envelope = envelope | {
        "SignatureVersion": hook.signature_version,
        "Signature": base64.b64encode(signature).decode(),
        "SigningCertURL": hook.certificate_url,
        "UnsubscribeURL": f"https://sns.ap-northeast-2.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={TOPIC}",
    }
    headers = {
        "Content-Type": "text/plain; charset=UTF-8",
        "x-amz-sns-message-type": envelope["Type"],
        "x-amz-sns-message-id": envelope["MessageId"],
        "x-amz-sns-topic-arn": TOPIC,
    }
    return WebhookRequest(headers, _json(envelope))


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_WORDS: dict[str, Callable[[str, Outgoing, str, float], dict[str, Any]]] = {
    "sendgrid": _sendgrid, "mailgun": _mailgun, "postmark": _postmark, "brevo": _brevo, "resend": _resend, "ses": _ses,
}  # fmt: skip
_SIGNERS: dict[str, Callable[[Hook, Sequence[dict[str, Any]], float], WebhookRequest]] = {
    "sendgrid": _sign_sendgrid, "mailgun": _sign_mailgun, "postmark": _sign_plain, "brevo": _sign_plain,
    "resend": _sign_resend, "ses": _sign_ses,
}  # fmt: skip
ESPS = tuple(_WORDS)
