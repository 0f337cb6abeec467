"""What every test may use: an application with its keys, and clients that call the API as they would."""

from __future__ import annotations

import gc
import json

import pytest
from django.conf import settings
from django.db import transaction
from django.test import Client, override_settings

from apps.tenants.models import Application, KeyKind
from apps.tenants.services import key_create

pytest_plugins = [
    "tests.workers",
    "tests.providers",
    "tests.fleet",
    "tests.mail_peers",
    "tests.mail_senders",
    "tests.gateways",
]


def pytest_collection_finish():
    """The garbage collector need not go through thousands of tests again and again: a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


class ApiClient:
    """Calls `/api/v1/…` with one key or token, JSON in and out."""

    def __init__(self, token: str, **headers: str) -> None:
        self._client = Client(raise_request_exception=False)
        self._headers = {"authorization": f"Bearer {token}", **headers} if token else headers

    def request(self, method: str, path: str, body=None, **headers: str):
        address = path if path.startswith("/") else f"/api/v1/{path}"
        return self._client.generic(
            method,
            address,
            data=body if isinstance(body, bytes | str) else _json(body),
            content_type="application/json",
            headers={**self._headers, **headers},
        )

    def get(self, path: str, **headers: str):
        return self.request("GET", path, b"", **headers)

    def post(self, path: str, body=None, **headers: str):
        return self.request("POST", path, body if body is not None else {}, **headers)

    def patch(self, path: str, body=None, **headers: str):
        return self.request("PATCH", path, body if body is not None else {}, **headers)

    def delete(self, path: str, body=None, **headers: str):
        return self.request("DELETE", path, body if body is not None else b"", **headers)


def _json(body) -> bytes:
    return json.dumps(body).encode()


@pytest.fixture(scope="session", autouse=True)
def quick_passwords():
    """A hash that is slow on purpose says nothing more of a password."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(autouse=True)
def nothing_is_kept(settings):
    """Tests change what is kept for a while and look at once; keeping has tests of its own."""
    settings.API_KEY_CACHE_S = 0
    settings.CACHE_TTL_S = dict.fromkeys(settings.CACHE_TTL_S, 0)


@pytest.fixture(scope="module")
def rows_of_module(django_db_setup, django_db_blocker):
    """For fixtures of a module's scope that make rows: they are there for each of its tests, and gone after the last.

    The tests run inside this transaction, each in a savepoint that is rolled back; SQL's `now()` is when it began.
    A module with transactional tests cannot use it: they see nothing of it, and empty the tables.
    """
    with django_db_blocker.unblock(), transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture(scope="session", autouse=True)
def private_files(tmp_path_factory):
    """Where uploads and exports of tests are; other processes that are to see them get it as `PRIVATE_FILES_DIR`."""
    folder = tmp_path_factory.mktemp("files")
    place = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(folder)}}
    media = {**place, "OPTIONS": {"location": str(tmp_path_factory.mktemp("media"))}}
    with override_settings(STORAGES={**settings.STORAGES, "private": place, "media": media}):
        yield folder


@pytest.fixture
def application(db) -> Application:
    return Application.objects.create(name="Shop", time_zone="Asia/Seoul")


@pytest.fixture
def other_application(db) -> Application:
    return Application.objects.create(name="Stranger")


@pytest.fixture
def server(application) -> ApiClient:
    """The app server: a secret key with every scope."""
    return ApiClient(key_create(application=application, name="server", kind=KeyKind.SECRET).plaintext)


@pytest.fixture
def sdk(application) -> ApiClient:
    """The SDK: the publishable key."""
    return ApiClient(key_create(application=application, name="sdk", kind=KeyKind.PUBLISHABLE).plaintext)


@pytest.fixture
def stranger(other_application) -> ApiClient:
    """Another application's app server, with every scope there."""
    return ApiClient(key_create(application=other_application, name="server", kind=KeyKind.SECRET).plaintext)
