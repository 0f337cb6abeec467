"""Peers and certificates for the adapters' tests. Nothing here needs Django or a database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.messaging.adapters.peer import Peer, make_certificates, running_peer


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(server certificate with key, authority), PEM files."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def peer(certificates: tuple[Path, Path]) -> Iterator[Peer]:
    """A fresh peer that answers 200 until told otherwise."""
    with running_peer(*certificates) as running:
        yield running
