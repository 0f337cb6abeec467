"""Single calls to a gateway: what became of a message, who has opted out, what templates there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import orjson

from apps.messaging.adapters.base import Endpoint
from apps.messaging.adapters.gateway import GatewayAnswer, GatewayCall, HttpPool
from apps.messaging.adapters.nhn import headers_of
from apps.messaging.adapters.solapi_sender import authorization
from apps.messaging.adapters.twilio import basic

__all__ = ["CallFailed", "CallRefused", "nhn_call", "solapi_call", "twilio_call"]


class CallFailed(Exception):
    """The gateway did not answer, or not as its documentation says. The message is for logs and operators."""


class CallRefused(CallFailed):
    """It answered no. `code` is its own word, `text` what it says."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}" if text else code)
        self.code = code
        self.text = text


def solapi_call(
    secret: Mapping[str, Any],
    endpoint: Endpoint,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: object = None,
) -> dict[str, Any]:
    """Solapi's answer. Raises `CallFailed`."""
    headers = [("Authorization", authorization(secret["api_key"], secret["api_secret"]))]
    answer, content = _called(endpoint, method, path, query, headers, body)
    if answer.status != 200:
        code = str(content.get("errorCode") or f"http_{answer.status}")
        raise CallRefused(code, str(content.get("errorMessage") or ""))
    return content


def nhn_call(
    secret: Mapping[str, Any],
    endpoint: Endpoint,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: object = None,
) -> dict[str, Any]:
    """NHN Cloud's answer; `path` comes after the app key. Raises `CallFailed`."""
    answer, content = _called(endpoint, method, path, query, headers_of(secret)[:1], body)
    header = content.get("header")
    if answer.status != 200 or not isinstance(header, dict):
        raise CallFailed(f"http_{answer.status}")
    if header.get("isSuccessful") is not True:
        raise CallRefused(str(header.get("resultCode", "")), str(header.get("resultMessage") or ""))
    return content


def twilio_call(secret: Mapping[str, Any], endpoint: Endpoint, path: str) -> dict[str, Any]:
    """Twilio's answer; `path` comes after the account. Raises `CallFailed`."""
    path = f"/2010-04-01/Accounts/{secret['account_sid']}{path}"
    answer, content = _called(endpoint, "GET", path, None, [("Authorization", basic(secret))], None)
    if answer.status != 200:
        raise CallRefused(str(content.get("code") or f"http_{answer.status}"), str(content.get("message") or ""))
    return content


def _called(
    endpoint: Endpoint,
    method: str,
    path: str,
    query: Mapping[str, str] | None,
    headers: Sequence[tuple[str, str]],
    body: object,
) -> tuple[GatewayAnswer, dict[str, Any]]:
    encoded = b"" if body is None else orjson.dumps(body)
    kind = [] if body is None else [("Content-Type", "application/json;charset=UTF-8")]
    call = GatewayCall(method, f"{path}?{urlencode(query)}" if query else path, [*headers, *kind], encoded)
    pool = HttpPool(endpoint)
    try:
        answer = pool.call(call)
    except Exception as error:  # the pool tells apart only what had left, which is all the same here
        raise CallFailed(str(error) or type(error).__name__) from None
    finally:
        pool.close()
    content = answer.json()
    return answer, content if isinstance(content, dict) else {}
