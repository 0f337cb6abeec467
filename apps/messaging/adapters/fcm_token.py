"""OAuth access tokens for FCM, from a service account (providers.md 2.1): fetched rarely, renewed ahead of time."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import google.auth.exceptions
import google.auth.transport.requests
import google.oauth2.service_account
import requests

from apps.messaging.adapters.base import Outcome
from apps.messaging.adapters.http2 import ca_bundle
from apps.messaging.adapters.push_sender import NoAuthorization

__all__ = ["AccessTokens"]

log = logging.getLogger(__name__)

SCOPES = ("https://www.googleapis.com/auth/firebase.messaging",)
RENEW_BEFORE_END_S = 300.0
"""A token is renewed this long before its end, beside the sending."""
FAILURE_HELD_S = 5.0
"""After a failure, the endpoint is left alone this long."""
TIMEOUT_S = 10.0


class _Token(NamedTuple):
    header: bytes
    renew_at: float
    ends_at: float


class AccessTokens:
    """The access token of one service account, as a header.

    Asks `token_url` and nothing else: the `token_uri` of the service account comes from an operator, and must not
    let them make this server call a host of their choice.
    """

    def __init__(self, service_account: Mapping[str, str], *, token_url: str, ca_file: str) -> None:
        make: Any = google.oauth2.service_account.Credentials.from_service_account_info  # the library has no types
        self._credentials = make({**service_account, "token_uri": token_url}, scopes=SCOPES)
        session = requests.Session()
        session.max_redirects = 0
        session.verify = ca_bundle(ca_file) or True
        session.trust_env = not ca_file  # else REQUESTS_CA_BUNDLE comes before `verify`
        self._request = functools.partial(google.auth.transport.requests.Request(session), timeout=TIMEOUT_S)
        self._fetching = threading.Lock()
        self._token: _Token | None = None
        self._failure: NoAuthorization | None = None
        self._try_again_at = 0.0

    def authorization(self) -> bytes:
        """The header. Waits for the network only when there is no token that is good; raises `NoAuthorization`."""
        token, now = self._token, time.monotonic()
        if token is None or now >= token.ends_at:
            return self._fetch().header
        if now >= token.renew_at and now >= self._try_again_at:
            self._try_again_at = now + FAILURE_HELD_S
            threading.Thread(target=self._renew_quietly, name="fcm-token", daemon=True).start()
        return token.header

    def discard(self, header: bytes) -> None:
        """FCM does not take this token any more."""
        token = self._token
        if token is not None and token.header == header:
            self._token = None

    def _renew_quietly(self) -> None:
        try:
            self._fetch(ahead=True)
        except NoAuthorization as failure:
            log.warning("the FCM access token could not be renewed yet: %s", failure.reason)

    def _fetch(self, *, ahead: bool = False) -> _Token:
        with self._fetching:
            token, now = self._token, time.monotonic()
            if token is not None and now < (token.renew_at if ahead else token.ends_at):
                return token
            if self._failure is not None and now < self._try_again_at and not ahead:
                raise self._failure
            try:
                self._credentials.refresh(self._request)
            except google.auth.exceptions.GoogleAuthError as error:
                self._failure = _failure(error)
                self._try_again_at = time.monotonic() + FAILURE_HELD_S
                raise self._failure from error
            self._failure = None
            life_s = (self._credentials.expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
            now = time.monotonic()
            header = b"authorization: Bearer " + self._credentials.token.encode()
            self._token = _Token(header, now + max(life_s / 2, life_s - RENEW_BEFORE_END_S), now + life_s * 0.95)
            return self._token


def _failure(error: google.auth.exceptions.GoogleAuthError) -> NoAuthorization:
    """A refusal by the endpoint is the credential's fault; anything else may pass."""
    if isinstance(error, google.auth.exceptions.RefreshError) and not error.retryable:
        refusal = error.args[1] if len(error.args) > 1 else None
        if isinstance(refusal, Mapping) and isinstance(refusal.get("error"), str):
            return NoAuthorization(Outcome.CREDENTIAL, refusal["error"])
    return NoAuthorization(Outcome.TRANSIENT, "no_access_token")
