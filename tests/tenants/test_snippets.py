"""The code that the console offers, run as it stands against a server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from apps.messaging.models import Message
from apps.subscriptions.models import Subscription
from apps.subscriptions.services import subscription_register, user_create
from apps.subscriptions.status import Setter
from apps.tenants.console_pages import snippets
from apps.tenants.models import Application, KeyKind
from apps.tenants.services import key_create


@pytest.fixture
def application(db) -> Application:
    return Application.objects.create(name="Shop", time_zone="Asia/Seoul")


@pytest.mark.django_db(transaction=True)
def test_the_examples_work_against_the_server(live_server, apns, application, tmp_path):
    """The calls of curl and Python, as they stand in the page, with keys in their place."""
    public = key_create(application=application, name="apps", kind=KeyKind.PUBLISHABLE).plaintext
    secret = key_create(application=application, name="server", kind=KeyKind.SECRET).plaintext
    user = user_create(application=application, external_id="customer-1001")
    subscription_register(
        application=application, type="iOSPush", token="a5" * 32, setter=Setter.PERSON, enabled=True, user=user
    )
    codes = {snippet.name: snippet.code for snippet in snippets.server_snippets(live_server.url, secret)}
    script = tmp_path / "send.py"
    script.write_text(codes["python"])
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    assert "messages" in ran.stdout
    assert Message.objects.filter(application=application).count() == 1
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    device = {snippet.name: snippet.code for snippet in snippets.device_snippets(live_server.url, public)}
    registered = _answer(device["curl-device"])
    assert Subscription.objects.get(pk=registered["data"]["id"]).type == "iOSPush"
    assert len(_answer(codes["curl"])["data"]["messages"]) == 1
    assert _answer(snippets.check_snippet(live_server.url, secret))["data"]["id"] == str(application.pk)


def _answer(command: str) -> dict:
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    answer = json.loads(ran.stdout)
    assert answer["success"], answer
    return answer


def test_every_snippet_holds_the_key_and_the_address():
    for snippet in (
        *snippets.device_snippets("https://s.example/", "KEY"),
        *snippets.server_snippets("https://s.example", "KEY"),
    ):
        assert "https://s.example/api/v1" in snippet.code, snippet.name
        assert "KEY" in snippet.code, snippet.name
        assert "$api" not in snippet.code
