"""Asking a provider whether it takes a credential, without sending anybody anything.

Each question goes through the adapter's own client, so that what is found out is what sending would meet: the same
addresses, certificates, tokens and headers. None of them costs anything:

- APNs is sent a push for a device token that cannot be one. A good key is told `BadDeviceToken`, a bad one 403.
- FCM checks a message for a topic that nobody has (`validate_only`).
- A mail server is signed in to, and told NOOP.
- E-mail providers and gateways are asked for what every key may read; Mailgun, whose sending keys may read nothing,
  is sent a message without a sender, which a good key is told is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson
import requests
from botocore.exceptions import BotoCoreError, ClientError

from apps.messaging.adapters.anymail import AnymailCredential, open_backend
from apps.messaging.adapters.apns import ApnsAdapter
from apps.messaging.adapters.base import Content, CredentialError, Delivery, Endpoint, Outcome, Result
from apps.messaging.adapters.fcm import ServiceAccount, read_refusal
from apps.messaging.adapters.fcm_token import AccessTokens
from apps.messaging.adapters.gateway_calls import CallFailed, CallRefused, nhn_call, solapi_call, twilio_call
from apps.messaging.adapters.http2 import Http2Client, Request
from apps.messaging.adapters.push_sender import NoAuthorization
from apps.messaging.adapters.smtp import SmtpCredential, sign_in_once
from apps.messaging.adapters.solapi_sender import korean_sender
from automata_signal.secret_checks import Finding, Verified

__all__ = ["verify"]

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
Secret = Mapping[str, Any]
_MESSAGE_ID = "00000000-0000-0000-0000-000000000000"
_NO_DEVICE = "notadevicetoken"
"""No hexadecimal digits, so no device of anybody."""


def verify(provider: str, secret: Secret, endpoint: Endpoint) -> Verified:
    """What `provider` says of `secret`. Takes a few time-outs at most, and raises nothing. Never in a transaction."""
    ask = _QUESTIONS.get(provider)
    if ask is None:
        return Verified(Finding.WORKS)  # ourselves: nobody has to be asked
    try:
        return ask(secret, replace(endpoint, connections=1, timeout_s=min(endpoint.timeout_s, TIMEOUT_S)))
    except CredentialError as error:
        return Verified(Finding.KEY_REFUSED, error.message, error.field)
    except Exception:
        log.exception("a credential could not be checked", extra={"provider": provider})
        return Verified(Finding.UNCLEAR)


# --- Push ----------------------------------------------------------------------------------------------------------

_APNS_SENDER = ("TopicDisallowed", "BadTopic", "MissingTopic", "DeviceTokenNotForTopic")


def _ask_apns(secret: Secret, endpoint: Endpoint) -> Verified:
    """In each environment that the credential serves; the first that refuses it is the answer."""
    sender = ApnsAdapter().open(secret, endpoint)
    serves = {"production": (0,), "sandbox": (1,)}.get(str(secret["environment"]), (0, 1))
    content = Content(title="-", body="-")
    try:
        for test_type in serves:
            (result,) = sender.send([Delivery(_MESSAGE_ID, _NO_DEVICE, content, test_type)])
            name = "sandbox" if test_type else "production"
            if result.reason == "EnvironmentNotServed":
                continue
            if result.reason != "BadDeviceToken":
                finding = Finding.SENDER_REFUSED if result.reason in _APNS_SENDER else _of_result(result)
                return Verified(finding, result.reason, name)
    finally:
        sender.close()
    return Verified(Finding.WORKS, about=str(secret["bundle_id"]))


def _of_result(result: Result) -> Finding:
    if result.outcome is Outcome.CREDENTIAL:
        return Finding.KEY_REFUSED
    return _of_outcome(result.outcome)


def _of_outcome(outcome: Outcome) -> Finding:
    found = {
        Outcome.ACCEPTED: Finding.WORKS,
        Outcome.CREDENTIAL: Finding.KEY_REFUSED,
        Outcome.THROTTLED: Finding.BUSY,
        Outcome.TRANSIENT: Finding.NO_ANSWER,
        Outcome.UNKNOWN: Finding.NO_ANSWER,
    }
    return found.get(outcome, Finding.UNCLEAR)


def _ask_fcm(secret: Secret, endpoint: Endpoint) -> Verified:
    account = ServiceAccount.read(secret)
    tokens = AccessTokens(account._asdict(), token_url=endpoint.token_url, ca_file=endpoint.ca_file)
    try:
        authorization = tokens.authorization()
    except NoAuthorization as refusal:
        return Verified(_of_outcome(refusal.outcome), refusal.reason, account.client_email)
    client = Http2Client(ca_file=endpoint.ca_file, connections=1, timeout_s=endpoint.timeout_s)
    body = {"validate_only": True, "message": {"topic": "automata-signal-check", "data": {"check": "1"}}}
    path = f"/v1/projects/{account.project_id}/messages:send".encode()
    headers = [authorization, b"content-type: application/json"]
    try:
        (answer,) = client.exchange([Request("check", endpoint.url, path, headers, orjson.dumps(body))])
    finally:
        client.close()
    if answer.failure is not None:
        return Verified(Finding.NO_ANSWER, answer.reason)
    if answer.status == 200:
        return Verified(Finding.WORKS, about=account.project_id)
    word = read_refusal(answer.status, answer.body) or f"HTTP {answer.status}"
    by_status = {401: Finding.KEY_REFUSED, 403: Finding.NOT_ALLOWED, 404: Finding.SENDER_REFUSED, 429: Finding.BUSY}
    unasked = Finding.NO_ANSWER if answer.status >= 500 else Finding.UNCLEAR
    return Verified(by_status.get(answer.status, unasked), word, account.project_id)


# --- E-mail --------------------------------------------------------------------------------------------------------


def _ask_smtp(secret: Secret, endpoint: Endpoint) -> Verified:
    credential = SmtpCredential.read(secret)
    outcome, word = sign_in_once(credential, endpoint)
    if outcome is Outcome.ACCEPTED:
        return Verified(Finding.WORKS, about=credential.host)
    return Verified(_of_outcome(outcome), word, credential.host)


_ESP_QUESTIONS: dict[str, tuple[str, str]] = {
    "sendgrid": ("GET", "scopes"),
    "mailgun": ("POST", "{domain}/messages"),
    "postmark": ("GET", "server"),
    "brevo": ("GET", "account"),
    "resend": ("GET", "domains"),
}


def _ask_anymail(secret: Secret, endpoint: Endpoint) -> Verified:
    credential = AnymailCredential.read(secret)
    backend = open_backend(credential, endpoint)
    try:
        if credential.esp == "amazon_ses":
            return _ask_ses(backend, credential)
        method, path = _ESP_QUESTIONS[credential.esp]
        domain = credential.sender_domain or credential.from_address.rpartition("@")[2]
        url = f"{backend.api_url.rstrip('/')}/{path.format(domain=quote(domain, safe=''))}"
        answer = backend.session.request(
            method, url, timeout=endpoint.timeout_s, allow_redirects=False, **_esp_signature(credential)
        )
        return _of_esp(credential, domain, answer)
    except requests.RequestException as error:
        return Verified(Finding.NO_ANSWER, type(error).__name__, credential.esp)
    finally:
        backend.close()


def _esp_signature(credential: AnymailCredential) -> dict[str, Any]:
    key = credential.api_key
    headers = {"Accept": "application/json", "User-Agent": "Automata-Signal"}
    if credential.esp == "mailgun":
        return {"headers": headers, "auth": ("api", key)}
    name, value = {
        "postmark": ("X-Postmark-Server-Token", key),
        "brevo": ("api-key", key),
    }.get(credential.esp, ("Authorization", f"Bearer {key}"))
    return {"headers": {**headers, name: value}}


def _of_esp(credential: AnymailCredential, domain: str, answer: requests.Response) -> Verified:
    esp, status, content = credential.esp, answer.status_code, _json(answer)
    if esp == "mailgun":
        if status == 400:  # "from parameter is missing": so far a key and a domain were right
            return Verified(Finding.WORKS, about=domain)
        if status == 404:
            return Verified(Finding.SENDER_REFUSED, "404", domain)
    if esp == "resend" and str(content.get("name")) == "restricted_api_key":
        return Verified(Finding.WORKS_IN_PART, "restricted_api_key", domain)
    if status == 200:
        return _of_account(credential, domain, content)
    if status in (401, 403):
        word = str(content.get("code") or content.get("name") or content.get("ErrorCode") or status)
        return Verified(Finding.KEY_REFUSED, word, esp)
    if status == 429:
        return Verified(Finding.BUSY, "429", esp)
    return Verified(Finding.NO_ANSWER if status >= 500 else Finding.UNCLEAR, str(status), esp)


def _of_account(credential: AnymailCredential, domain: str, content: Mapping[str, Any]) -> Verified:
    """What the provider tells of a key that it takes."""
    if credential.esp == "sendgrid":
        scopes = content.get("scopes")
        if not isinstance(scopes, list) or "mail.send" not in scopes:
            return Verified(Finding.NOT_ALLOWED, "mail.send", credential.esp)
    if credential.esp == "resend":
        rows = content.get("data")
        states = {str(row.get("name")): str(row.get("status")) for row in rows} if isinstance(rows, list) else {}
        if states.get(domain) != "verified":
            return Verified(Finding.SENDER_REFUSED, states.get(domain, "unknown domain"), domain)
    named = {"postmark": "Name", "brevo": "companyName"}.get(credential.esp)
    return Verified(Finding.WORKS, about=str(content.get(named) or domain) if named else domain)


def _json(answer: requests.Response) -> Mapping[str, Any]:
    try:
        content = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}


def _ask_ses(backend: Any, credential: AnymailCredential) -> Verified:
    try:
        account = backend.client.get_account()
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code.startswith("AccessDenied"):  # the signature was right
            return Verified(Finding.WORKS_IN_PART, code, credential.region)
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if status in (401, 403):
            return Verified(Finding.KEY_REFUSED, code, credential.region)
        return Verified(Finding.BUSY if status == 429 else Finding.UNCLEAR, code or str(status), credential.region)
    except BotoCoreError as error:
        return Verified(Finding.NO_ANSWER, type(error).__name__, credential.region)
    if not account.get("SendingEnabled", True):
        return Verified(Finding.NOT_ALLOWED, "SendingPaused", credential.region)
    return Verified(Finding.WORKS, "" if account.get("ProductionAccessEnabled") else "SES sandbox", credential.region)


# --- Gateways ------------------------------------------------------------------------------------------------------


def _gateway(ask: Callable[[Secret, Endpoint], Verified]) -> Callable[[Secret, Endpoint], Verified]:
    def asked(secret: Secret, endpoint: Endpoint) -> Verified:
        try:
            return ask(secret, endpoint)
        except CallRefused as refusal:
            if refusal.code in ("http_429", "20429", "TooManyRequests"):
                return Verified(Finding.BUSY, refusal.code)
            return Verified(
                Finding.NO_ANSWER if refusal.code.startswith("http_5") else Finding.KEY_REFUSED, refusal.code
            )
        except CallFailed as failure:
            return Verified(Finding.NO_ANSWER, str(failure))

    return asked


def _ask_solapi(secret: Secret, endpoint: Endpoint) -> Verified:
    content = solapi_call(secret, endpoint, "GET", "/cash/v1/balance")
    balance, points = (_amount(content.get(name)) for name in ("balance", "point"))
    if balance + points <= 0:
        return Verified(Finding.NOT_ALLOWED, "NotEnoughBalance", str(secret.get("from", "")))
    return Verified(Finding.WORKS, about=f"{balance:,.0f} KRW")


def _amount(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _ask_solapi_kakao(secret: Secret, endpoint: Endpoint) -> Verified:
    rows = solapi_call(secret, endpoint, "GET", "/kakao/v2/channels", query={"limit": "20"}).get("channelList")
    return _of_channels([str(row.get("searchId", "")) for row in rows] if isinstance(rows, list) else [])


def _ask_nhn_kakao(secret: Secret, endpoint: Endpoint) -> Verified:
    path = f"/alimtalk/v2.3/appkeys/{secret['app_key']}/senders"
    rows = nhn_call(secret, endpoint, "GET", path, query={"pageNum": "1", "pageSize": "20"}).get("senders")
    return _of_channels([str(row.get("plusFriendId", "")) for row in rows] if isinstance(rows, list) else [])


def _of_channels(names: list[str]) -> Verified:
    if not names:
        return Verified(Finding.SENDER_REFUSED, "no Kakao channel")
    return Verified(Finding.WORKS, about=", ".join(name for name in names[:5] if name))


def _ask_nhn_sms(secret: Secret, endpoint: Endpoint) -> Verified:
    number = korean_sender(str(secret["from"]))
    path = f"/sms/v3.0/appKeys/{secret['app_key']}/sendNos"
    body = nhn_call(secret, endpoint, "GET", path, query={"sendNo": number}).get("body")
    rows = body.get("data") if isinstance(body, dict) else None
    found = [row for row in rows if row.get("sendNo") == number] if isinstance(rows, list) else []
    if not any(row.get("useYn") == "Y" and row.get("blockYn") != "Y" for row in found):
        return Verified(Finding.SENDER_REFUSED, "blocked" if found else "not registered", number)
    return Verified(Finding.WORKS, about=number)


def _ask_twilio(secret: Secret, endpoint: Endpoint) -> Verified:
    """The token, which also proves reports, and the API key if there is one."""
    plain = {name: secret[name] for name in ("account_sid", "auth_token")}
    account = twilio_call(plain, endpoint, ".json")
    if secret.get("api_key_sid"):
        twilio_call(secret, endpoint, "/Messages.json?PageSize=1")
    state, name = str(account.get("status", "")), str(account.get("friendly_name", ""))
    if state != "active":
        return Verified(Finding.NOT_ALLOWED, state, name)
    return Verified(Finding.WORKS, about=name)


_QUESTIONS: dict[str, Callable[[Secret, Endpoint], Verified]] = {
    "apns": _ask_apns,
    "fcm": _ask_fcm,
    "smtp": _ask_smtp,
    "anymail": _ask_anymail,
    "solapi": _gateway(_ask_solapi),
    "solapi_kakao": _gateway(_ask_solapi_kakao),
    "twilio": _gateway(_ask_twilio),
    "nhn_sms": _gateway(_ask_nhn_sms),
    "nhn_kakao": _gateway(_ask_nhn_kakao),
}
