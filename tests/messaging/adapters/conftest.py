"""Peers and certificates for the adapters' tests. Nothing here needs a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.messaging.adapters.apns import ApnsAdapter, ApnsSender
from apps.messaging.adapters.fcm import FcmAdapter, FcmSender
from tests.messaging.adapters.deliveries import apns_secret, endpoint, fcm_secret
from tests.messaging.adapters.peer import Peer, TokenEndpoint, make_certificates, running_peer, running_token_endpoint


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(server certificate with key, authority), PEM files."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def peer(certificates: tuple[Path, Path]) -> Iterator[Peer]:
    """A fresh peer that answers 200 until told otherwise."""
    with running_peer(*certificates) as running:
        yield running


@pytest.fixture
def token_endpoint(certificates: tuple[Path, Path]) -> Iterator[TokenEndpoint]:
    with running_token_endpoint(*certificates) as running:
        yield running


@pytest.fixture
def apns(peer: Peer) -> Iterator[Callable[..., ApnsSender]]:
    """Open an APNs sender to the peer; keyword arguments change the endpoint, `secret` the secret."""
    senders: list[ApnsSender] = []

    def open_sender(secret: dict[str, Any] | None = None, **changes: Any) -> ApnsSender:
        senders.append(ApnsAdapter().open(secret or apns_secret(), endpoint(peer, **changes)))
        return senders[-1]

    yield open_sender
    for sender in senders:
        sender.close()


@pytest.fixture
def fcm(peer: Peer, token_endpoint: TokenEndpoint) -> Iterator[Callable[..., FcmSender]]:
    """Open an FCM sender to the peer and the token endpoint; keyword arguments change the endpoint."""
    senders: list[FcmSender] = []

    def open_sender(adapter: FcmAdapter | None = None, **changes: Any) -> FcmSender:
        where = endpoint(peer, **{"token_url": token_endpoint.url, **changes})
        senders.append((adapter or FcmAdapter()).open(fcm_secret(), where))
        return senders[-1]

    yield open_sender
    for sender in senders:
        sender.close()
