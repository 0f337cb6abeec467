"""Real providers' stand-ins, credentials they know, and a worker's recording thread that is ended with the session."""

from __future__ import annotations

import pytest
from django.db import connection

from apps.messaging.recording import recorder_thread
from apps.messaging.senders import close_senders
from apps.sandbox.client import running_sandbox
from apps.sandbox.credentials import make_apns_key, make_fcm_account
from apps.tenants.services import credential_create

BUNDLE_ID = "com.example.shop"


@pytest.fixture(scope="session")
def ca_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("ca")


@pytest.fixture(scope="session")
def apns_sandbox(ca_dir):
    with running_sandbox("apns", ca_dir=ca_dir) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def fcm_sandbox(ca_dir):
    with running_sandbox("fcm", ca_dir=ca_dir) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def apns_key():
    return make_apns_key([BUNDLE_ID])


@pytest.fixture
def apns(application, apns_sandbox, apns_key, settings):
    """The APNs stand-in, and a credential of the application that it knows."""
    settings.APNS_URL = apns_sandbox.url
    settings.APNS_SANDBOX_URL = apns_sandbox.sandbox_url or apns_sandbox.url
    settings.PROVIDER_CA_FILE = str(apns_sandbox.ca_file)
    settings.PROVIDER_TIMEOUT_S = 2.0
    apns_sandbox.control.reset()
    apns_sandbox.control.register_keys(apns_key.registration())
    secret = {
        "team_id": apns_key.team_id,
        "key_id": apns_key.key_id,
        "private_key": apns_key.p8,
        "bundle_id": BUNDLE_ID,
        "environment": "both",
    }
    credential_create(application=application, provider="apns", name="key", secret=secret)
    yield apns_sandbox.control
    close_senders()


@pytest.fixture(scope="session")
def fcm_account(fcm_sandbox):
    return make_fcm_account("demo-shop", fcm_sandbox.token_url)


@pytest.fixture
def fcm(application, fcm_sandbox, fcm_account, settings):
    """The FCM stand-in, and a credential of the application that it knows."""
    settings.FCM_URL = fcm_sandbox.url
    settings.FCM_TOKEN_URL = fcm_sandbox.token_url
    settings.PROVIDER_CA_FILE = str(fcm_sandbox.ca_file)
    settings.PROVIDER_TIMEOUT_S = 2.0
    fcm_sandbox.control.reset()
    fcm_sandbox.control.register_keys(fcm_account.registration())
    secret = {"service_account": fcm_account.service_account}
    credential_create(application=application, provider="fcm", name="account", secret=secret)
    yield fcm_sandbox.control
    close_senders()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """The recording thread keeps its connection for good; here it must be gone before the database is. And the ledger,
    which nobody may empty, is emptied after each test that commits."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        cursor.execute(f"ALTER DATABASE {name} SET automata.ledger_may_be_emptied = 'on'")
        connection.close()
    yield
    recorder_thread().submit(lambda: connection.close()).result()


@pytest.fixture(autouse=True)
def _no_counts_of_other_tests():
    """Rates and breakers count in Redis, which no test's end rolls back."""
    from apps.messaging import rates
    from apps.messaging.breaker import _counters

    rates._asked_again_at = 0.0
    for pattern in ("automata:breaker:*", "automata:rate:*"):
        for key in _counters().scan_iter(pattern):
            _counters().delete(key)
