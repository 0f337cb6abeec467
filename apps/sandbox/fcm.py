"""The stand-in for FCM HTTP v1, providers.md section 2: `POST /v1/projects/<project>/messages:send`, `POST /token`."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from apps.sandbox.behaviours import FCM_TABLE, Behaviour, Behaviours
from apps.sandbox.exchange import Answer, Connection, Request
from apps.sandbox.fcm_message import INVALID_TOKEN, InvalidMessage, check_request
from apps.sandbox.journal import Journal
from apps.sandbox.oauth import SCOPES, AccessToken, ServiceAccount, TokenEndpoint
from apps.sandbox.provider import BAD_GATEWAY_HTML, HTML_HEADER, JSON_HEADER, Examined, Provider, Settings

TOKEN_PATH = b"/token"
_SEND_PATH = re.compile(rb"/v1/projects/([^/:]+)/messages:send")
_FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_QUOTA_FAILURE = "type.googleapis.com/google.rpc.QuotaFailure"

_CREDENTIAL = (
    "Expected OAuth 2 access token, login cookie or other valid authentication credential. "
    "See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
_NOT_FOUND_HTML = (
    b"<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)!!1</title><p><b>404.</b> Not found.</html>\n"
)

# FcmError code → (google.rpc status, message); section 2.5
_ERRORS: dict[str, tuple[str, str]] = {
    "INVALID_ARGUMENT": ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    "THIRD_PARTY_AUTH_ERROR": ("UNAUTHENTICATED", "Auth error from APNS or Web Push Service"),
    "SENDER_ID_MISMATCH": ("PERMISSION_DENIED", "SenderId mismatch"),
    "UNREGISTERED": ("NOT_FOUND", "Requested entity was not found."),
    "QUOTA_EXCEEDED": ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    "INTERNAL": ("INTERNAL", "Internal error encountered."),
    "UNAVAILABLE": ("UNAVAILABLE", "The service is currently unavailable."),
    "UNSPECIFIED_ERROR": ("UNKNOWN", "Unknown error."),
}


class Fcm(Provider):
    """FCM and its OAuth token endpoint on one TLS port."""

    name = "fcm"

    def __init__(self, settings: Settings, journal: Journal, *, audiences: frozenset[str], seed: int = 0) -> None:
        super().__init__(Behaviours(FCM_TABLE, seed=seed), settings, journal, seed=seed)
        self._oauth = TokenEndpoint(audiences)
        self._bindings: dict[str, str] = {}  # registration token → project id
        self._numbers = itertools.count(int(time.time() * 1e6))
        self._run = secrets.token_hex(4)

    # the request, in the order: route, credential, project, message

    def examine(self, connection: Connection, request: Request) -> Examined:
        if request.path == TOKEN_PATH and request.method == b"POST":
            return self._grant(request)
        seen = Examined()
        match = _SEND_PATH.fullmatch(request.path)
        if match is None or request.method != b"POST":
            seen.reason = "NOT_FOUND"
            seen.refusal = (
                error_answer(404, "NOT_FOUND", "Method not found.")
                if request.path.startswith(b"/v1/")
                else Answer(404, (HTML_HEADER,), _NOT_FOUND_HTML)
            )
            return seen
        project = match[1].decode("latin-1")
        refused = self._check_credential(request, project)
        if refused is not None:
            seen.reason, seen.refusal = refused
            return seen
        try:
            message, validate_only = check_request(request.body)
        except InvalidMessage as error:
            seen.reason, seen.refusal = "INVALID_ARGUMENT", invalid_argument(error)
            return seen
        seen.token = next(message[name] for name in ("token", "fid", "topic", "condition") if name in message)
        if self._bindings.get(seen.token, project) != project:
            seen.reason, seen.refusal = "SENDER_ID_MISMATCH", fcm_error(403, "SENDER_ID_MISMATCH")
            return seen
        android = message.get("android")
        if android is not None:
            seen.headers = {name: android[name] for name in ("priority", "ttl", "collapse_key") if name in android}
        number = "fake_message_id" if validate_only else f"0:{next(self._numbers)}%{self._run}"
        seen.provider_id = f"projects/{project}/messages/{number}"
        seen.message_id = message.get("data", {}).get("automata_message_id") or seen.provider_id
        if validate_only:
            seen.outcome, seen.refusal = "validated", self.accept(connection, seen)
        return seen

    def _check_credential(self, request: Request, project: str) -> tuple[str, Answer] | None:
        authorization = request.headers.get(b"authorization", b"")
        scheme, _, credential = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not credential:
            text = f"Request is missing required authentication credential. {_CREDENTIAL}"
            return "UNAUTHENTICATED", _unauthenticated(text, "CREDENTIALS_MISSING")
        token: AccessToken | None = self._oauth.find(credential.decode("latin-1"))
        if token is None or token.expires_at <= self.now():
            reason = "ACCESS_TOKEN_TYPE_UNSUPPORTED" if token is None else "ACCESS_TOKEN_EXPIRED"
            text = f"Request had invalid authentication credentials. {_CREDENTIAL}"
            return "UNAUTHENTICATED", _unauthenticated(text, reason)
        if not token.scopes & SCOPES:
            return "PERMISSION_DENIED", error_answer(
                403,
                "PERMISSION_DENIED",
                "Request had insufficient authentication scopes.",
                [_error_info("ACCESS_TOKEN_SCOPE_INSUFFICIENT")],
            )
        if project in (token.account.project_id, token.account.project_number):
            return None
        if any(project in (held.project_id, held.project_number) for held in self._oauth.accounts.values()):
            text = (
                f"Permission 'cloudmessaging.messages.create' denied on resource "
                f"'//cloudresourcemanager.googleapis.com/projects/{project}' (or it may not exist)."
            )
            return "PERMISSION_DENIED", error_answer(
                403, "PERMISSION_DENIED", text, [_error_info("IAM_PERMISSION_DENIED")]
            )
        return "NOT_FOUND", error_answer(404, "NOT_FOUND", "Requested entity was not found.")

    def _grant(self, request: Request) -> Examined:
        answer, error = self._oauth.grant(request.body, now=self.now(), ttl_s=self.settings.access_token_ttl_s)
        return Examined(refusal=answer, reason=error, outcome=None if error else "token")

    # answers

    def accept(self, connection: Connection, examined: Examined) -> Answer:
        return Answer(200, (JSON_HEADER,), b'{\n  "name": "%s"\n}\n' % examined.provider_id.encode())

    def refuse(self, behaviour: Behaviour, examined: Examined) -> Answer:
        if behaviour.body == "html":
            return Answer(behaviour.status, (HTML_HEADER,), BAD_GATEWAY_HTML)
        name = behaviour.name
        if name == "INVALID_TOKEN":
            return invalid_argument(InvalidMessage(INVALID_TOKEN, "message.token", "Invalid registration token"))
        if name == "INVALID_ARGUMENT":
            return invalid_argument(
                InvalidMessage("Invalid value at 'message.android' (TYPE_MESSAGE)", "message.android")
            )
        if name == "UNAUTHENTICATED":
            text = f"Request had invalid authentication credentials. {_CREDENTIAL}"
            return _unauthenticated(text, "ACCESS_TOKEN_EXPIRED")
        if name == "PERMISSION_DENIED":
            text = "Firebase Cloud Messaging API has not been used in this project before or it is disabled."
            return error_answer(403, "PERMISSION_DENIED", text, [_error_info("SERVICE_DISABLED")])
        if name == "NOT_FOUND":
            return error_answer(404, "NOT_FOUND", "Requested entity was not found.")
        return fcm_error(behaviour.status, behaviour.reason, retry_after_s=behaviour.retry_after_s)

    def unavailable(self, request: Request) -> Answer:
        return fcm_error(503, "UNAVAILABLE")

    # the control endpoint

    def register(self, body: Mapping[str, Any]) -> None:
        """{"client_email", "public_key": PEM, "project_id", "project_number" and "private_key_id" optional}."""
        email, pem, project = body.get("client_email"), body.get("public_key"), body.get("project_id")
        if not isinstance(email, str) or not isinstance(pem, str) or not isinstance(project, str):
            raise ValueError("client_email, public_key, project_id: texts")
        key = load_pem_public_key(pem.encode())
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("public_key: service accounts have RSA keys")
        self._oauth.accounts[email] = ServiceAccount(
            email, key, project, str(body.get("project_number") or ""), str(body.get("private_key_id") or "")
        )

    def registered(self) -> list[dict[str, Any]]:
        return [
            {"client_email": held.client_email, "project_id": held.project_id, "project_number": held.project_number}
            for held in self._oauth.accounts.values()
        ]

    def register_token(self, body: Mapping[str, Any]) -> None:
        """{"token", "project_id"}: other projects get SENDER_ID_MISMATCH for it."""
        token, project = body.get("token"), body.get("project_id")
        if not isinstance(token, str) or not isinstance(project, str):
            raise ValueError("token, project_id: texts")
        self._bindings[token] = project

    def forget(self, what: str) -> bool:
        if what == "keys":
            self._oauth.accounts.clear()
            self._oauth.revoke_all()
        elif what == "access_tokens":
            self._oauth.revoke_all()
        elif what == "tokens":
            self._bindings.clear()
        else:
            return False
        return True


def error_answer(
    code: int,
    status: str,
    message: str,
    details: list[dict[str, Any]] | None = None,
    *,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Answer:
    """Google's error body (section 2.4)."""
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if details:
        error["details"] = details
    return Answer(code, (JSON_HEADER, *headers), orjson.dumps({"error": error}, option=orjson.OPT_INDENT_2))


def fcm_error(code: int, error_code: str, *, retry_after_s: int | None = None) -> Answer:
    """An error with the FcmError detail that names it."""
    status, message = _ERRORS[error_code]
    details: list[dict[str, Any]] = [{"@type": _FCM_ERROR, "errorCode": error_code}]
    if error_code == "QUOTA_EXCEEDED":
        violation = {"subject": "project", "description": "Message rate exceeded."}
        details.append({"@type": _QUOTA_FAILURE, "violations": [violation]})
    headers = ((b"retry-after", b"%d" % retry_after_s),) if retry_after_s is not None else ()
    return error_answer(code, status, message, details, headers=headers)


def invalid_argument(error: InvalidMessage) -> Answer:
    """INVALID_ARGUMENT; with the field at fault, or without details as for a payload that is too large."""
    if not error.field:
        return error_answer(400, "INVALID_ARGUMENT", error.message)
    violation = {"field": error.field, "description": error.description}
    return error_answer(
        400,
        "INVALID_ARGUMENT",
        error.message,
        [
            {"@type": _FCM_ERROR, "errorCode": "INVALID_ARGUMENT"},
            {"@type": _BAD_REQUEST, "fieldViolations": [violation]},
        ],
    )


def _unauthenticated(text: str, reason: str) -> Answer:
    challenge = ((b"www-authenticate", b'Bearer realm="https://accounts.google.com/"'),)
    return error_answer(401, "UNAUTHENTICATED", text, [_error_info(reason)], headers=challenge)


def _error_info(reason: str) -> dict[str, Any]:
    return {
        "@type": _ERROR_INFO,
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "fcm.googleapis.com"},
    }
