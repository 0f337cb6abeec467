"""One APNs and one FCM stand-in for all tests here; each test finds them reset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apps.sandbox.client import Sandbox, running_sandbox
from apps.sandbox.credentials import ApnsKey, FcmAccount, make_apns_key, make_fcm_account
from tests.gateways import nhn_sandbox, solapi_sandbox, twilio_sandbox, webhook_receiver  # noqa: F401
from tests.sandbox.requests import DEVICE, PROJECT, TOPIC, grant, push_body, push_headers
from tests.sandbox.wire import Reply, Wire


@pytest.fixture(scope="session")
def ca_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("authority")


@pytest.fixture(scope="session")
def apns_process(ca_dir: Path) -> Iterator[Sandbox]:
    with running_sandbox("apns", ca_dir=ca_dir, arguments=("--sandbox-port", "0", "--stream-limit", "500")) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def fcm_process(ca_dir: Path) -> Iterator[Sandbox]:
    with running_sandbox("fcm", ca_dir=ca_dir) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def apns_key(apns_process: Sandbox) -> ApnsKey:
    key = make_apns_key([TOPIC])
    apns_process.control.register_keys(key.registration())
    return key


@pytest.fixture(scope="session")
def fcm_account(fcm_process: Sandbox) -> FcmAccount:
    account = make_fcm_account(PROJECT, fcm_process.token_url)
    fcm_process.control.register_keys(account.registration())
    return account


@pytest.fixture
def apns(apns_process: Sandbox, apns_key: ApnsKey) -> Sandbox:
    apns_process.control.reset()
    apns_process.control.reset("tokens")
    return apns_process


@pytest.fixture
def fcm(fcm_process: Sandbox, fcm_account: FcmAccount) -> Sandbox:
    fcm_process.control.reset()
    fcm_process.control.reset("tokens")
    return fcm_process


@pytest.fixture
def wire(apns: Sandbox) -> Iterator[Wire]:
    """A connection to APNs."""
    with Wire(apns.url, apns.ca_file) as connection:
        yield connection


@pytest.fixture
def fcm_wire(fcm: Sandbox) -> Iterator[Wire]:
    """A connection to FCM."""
    with Wire(fcm.url, fcm.ca_file) as connection:
        yield connection


@pytest.fixture
def push(wire: Wire, apns_key: ApnsKey) -> Callable[..., Reply]:
    """Send one push to APNs: push(device, body=…, header_name=…)."""
    provider_token = apns_key.provider_token()

    def send(device: str = DEVICE, *, body: bytes | None = None, **changes: str | None) -> Reply:
        headers = push_headers(apns_key, token=provider_token, **changes)
        return wire.send("POST", f"/3/device/{device}", headers, push_body() if body is None else body)

    return send


@pytest.fixture
def access_token(fcm_wire: Wire, fcm_account: FcmAccount) -> str:
    token: str = grant(fcm_wire, fcm_account.assertion()).json["access_token"]
    return token


@pytest.fixture(autouse=True)
def _no_counts_of_other_tests() -> None:
    """In place of the one in tests/providers.py: nothing here needs Redis."""
