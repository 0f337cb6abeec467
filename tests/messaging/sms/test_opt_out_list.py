"""Solapi's list of 080 opt-outs, which it keeps to itself until it is asked (the form of its SDKs, `iam/v1/black`)."""

import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.utils import timezone

from apps.messaging.sms import end_denied
from apps.tenants.services import credential_create
from tests.factories import make_subscription

pytestmark = pytest.mark.django_db


@pytest.fixture
def black_list(settings):
    """Two pages of one entry each."""
    rows, asked = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            page = 1 if "startKey=next" in self.path else 0
            content = {"blackList": rows[page : page + 1], "nextKey": None if page else "next"}
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    settings.SOLAPI_URL = f"http://127.0.0.1:{server.server_address[1]}"
    yield rows, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_who_called_the_080_number_is_ended_and_who_subscribed_since_stays(application, black_list):
    rows, asked = black_list
    secret = {"api_key": "NCS0123456789", "api_secret": "A" * 32, "from": "0212345678"}
    credential_create(application=application, provider="solapi", name="s", secret=secret)
    now = timezone.now()
    gone, back = (
        make_subscription(application, type="SMS", token=token, subscribed_at=at)
        for token, at in (("+821020000001", now - timedelta(days=2)), ("+821020000002", now))
    )
    denied_at = (now - timedelta(days=1)).isoformat()
    rows += [
        {"type": "DENIAL", "recipientNumber": number, "dateCreated": denied_at}
        for number in ("01020000001", "01020000002")
    ]
    assert end_denied() == 1
    assert "type=DENIAL" in asked[0][0]
    assert asked[0][1].startswith("HMAC-SHA256 apiKey=NCS0123456789")
    gone.refresh_from_db()
    back.refresh_from_db()
    assert (gone.subscription_status, back.subscription_status) == (-54, 1)
    assert end_denied() == 0
