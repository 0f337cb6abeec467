"""Signing in by OpenID Connect, at an issuer that is real but small: HTTP, authorization codes, PKCE and RS256."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from allauth.socialaccount.models import SocialAccount
from cryptography.hazmat.primitives.asymmetric import rsa
from django.test import Client

from apps.tenants.accounts.invitations import invitation_create
from apps.tenants.audit.models import AuditEvent
from apps.tenants.models import Membership, Operator
from apps.tenants.services import operator_create
from automata_signal.errors import Forbidden
from tests.tenants.conftest import PASSWORD

SECRET = "the client's secret"


class Issuer(ThreadingHTTPServer):
    """Says of whoever comes what the test has put into `person`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.person: dict[str, object] = {}
        self.userinfo: dict[str, object] = {}
        self.signed_by = self.key
        self.audience = "console"
        self.codes: dict[str, dict[str, str]] = {}


class Handler(BaseHTTPRequestHandler):
    server: Issuer

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        place = urlsplit(self.path).path
        if place == "/.well-known/openid-configuration":
            url = self.server.url
            self.answer(
                {
                    "issuer": url,
                    "authorization_endpoint": f"{url}/authorize",
                    "token_endpoint": f"{url}/token",
                    "userinfo_endpoint": f"{url}/userinfo",
                    "jwks_uri": f"{url}/keys",
                    "token_endpoint_auth_methods_supported": ["client_secret_post"],
                }
            )
        elif place == "/keys":
            key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.server.key.public_key()))
            self.answer({"keys": [{**key, "kid": "1", "alg": "RS256", "use": "sig"}]})
        elif place == "/userinfo":
            self.answer({**self.server.person, **self.server.userinfo})
        else:
            self.answer({}, 404)

    def do_POST(self) -> None:
        given = {k: v[0] for k, v in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()}
        asked = self.server.codes.pop(given.get("code", ""), None)
        digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge or given.get("client_secret") != SECRET:
            self.answer({"error": "invalid_grant"}, 400)
            return
        now = int(time.time())
        claims = {
            "iss": self.server.url,
            "aud": self.server.audience,
            "iat": now,
            "exp": now + 60,
            **self.server.person,
        }
        token = jwt.encode(claims | self.server.person, self.server.signed_by, "RS256", {"kid": "1"})
        self.answer({"access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": token})

    def answer(self, body: dict, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def issuer(settings):
    server = Issuer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    settings.OIDC_ISSUER, settings.OIDC_NAME = server.url, "Example ID"
    app = {
        "provider_id": "oidc",
        "name": "Example ID",
        "client_id": "console",
        "secret": SECRET,
        "settings": {"server_url": server.url},
    }
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}}
    yield server
    server.shutdown()
    server.server_close()


def come_by(issuer: Issuer, client: Client, *, state: str = "", **person: object):
    """The way there and back; the answer of our callback."""
    issuer.person = {"sub": "s-1", "email_verified": True, **person}
    answer = client.get("/account/oidc/oidc/login/?next=/admin/tenants/application/")
    assert answer.status_code == 302, answer.content[:200]
    place = urlsplit(answer["Location"])
    assert f"{place.scheme}://{place.netloc}{place.path}" == f"{issuer.url}/authorize"
    asked = {k: v[0] for k, v in parse_qs(place.query).items()}
    assert asked["redirect_uri"] == "http://localhost:8000/account/oidc/oidc/login/callback/"  # of PUBLIC_URL
    assert asked["code_challenge_method"] == "S256"
    code = secrets.token_urlsafe()
    issuer.codes[code] = asked
    back = urlencode({"code": code, "state": state or asked["state"]})
    return client.get(f"/account/oidc/oidc/login/callback/?{back}")


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def reasons() -> list[str]:
    return [event.details.get("reason", "") for event in AuditEvent.objects.filter(action="sign_in.refused")]


def test_the_door_offers_it_only_with_an_issuer(client, db, issuer, settings):
    page = client.get("/account/login/?next=/admin/x/").content.decode()
    assert "/account/oidc/oidc/login/?next=%2Fadmin%2Fx%2F" in page
    settings.OIDC_ISSUER = ""
    assert "oidc" not in client.get("/account/login/").content.decode()


def test_an_operator_comes_in_by_a_verified_address(client, owner, issuer):
    answer = come_by(issuer, client, email="Owner@Example.com")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/tenants/application/")
    assert is_in(client)
    account = SocialAccount.objects.get(user=owner)
    assert (account.uid, account.extra_data) == ("s-1", {})
    other = Client()
    come_by(issuer, other, email="changed@example.com")  # the issuer's `sub` is who they are
    assert is_in(other)
    assert SocialAccount.objects.get().extra_data == {}


@pytest.mark.parametrize(
    "person",
    [
        {"email": "owner@example.com", "email_verified": False},
        {"email": "owner@example.com", "email_verified": "false"},
        {"email": "stranger@example.com"},
        {"email": ""},
        {},
    ],
)
def test_nobody_else_comes_in(client, owner, issuer, person):
    answer = come_by(issuer, client, **person)
    assert (answer.status_code, answer["Location"]) == (302, "/account/login/")
    assert not is_in(client)
    assert Operator.objects.count() == 1
    assert not SocialAccount.objects.exists()
    assert "could not be signed in" in client.get("/account/login/").content.decode()


def test_who_is_not_active_stays_out(client, owner, issuer):
    Operator.objects.update(is_active=False)
    assert come_by(issuer, client, email=owner.email)["Location"] == "/account/login/"
    assert not is_in(client)


def test_a_second_account_under_the_same_address_is_refused(client, owner, issuer):
    come_by(issuer, client, email=owner.email)
    other = Client()
    come_by(issuer, other, email=owner.email, sub="s-2")
    assert not is_in(other)
    assert reasons() == ["the operator is linked to another account there"]


def test_userinfo_of_another_person_is_refused(client, owner, issuer):
    issuer.userinfo = {"sub": "s-9", "email": owner.email}
    come_by(issuer, client, email="stranger@example.com")
    assert not is_in(client)


def test_a_token_that_the_issuer_has_not_signed_is_refused(client, owner, issuer):
    issuer.signed_by = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    come_by(issuer, client, email=owner.email)
    assert not is_in(client)


def test_a_token_for_somebody_else_is_refused(client, owner, issuer):
    issuer.audience = "another client"
    come_by(issuer, client, email=owner.email)
    assert not is_in(client)


def test_an_answer_that_nobody_asked_for_is_refused(client, owner, issuer):
    come_by(issuer, client, email=owner.email, state="made-up")
    assert not is_in(client)


def test_who_is_invited_becomes_an_operator_without_a_password(client, owner, application, issuer):
    invitation_create(application=application, email="new@example.com", role="analyst", by=owner)
    come_by(issuer, client, email="new@example.com")
    assert is_in(client)
    member = Membership.objects.get(operator__email="new@example.com")
    assert member.role == "analyst"
    assert not member.operator.has_usable_password()
    assert client.get("/account/password/change/").status_code == 404


def test_an_invitation_that_the_plan_refuses_keeps_nobody_out(
    client, owner, application, other_application, issuer, monkeypatch
):
    def refuse(operator, to):
        if to.pk in refused:
            raise Forbidden("The plan allows no more.", code="PLAN_LIMIT")

    monkeypatch.setattr("apps.billing.entitlements.refuse_owner", refuse)
    for each in (application, other_application):
        invitation_create(application=each, email="new@example.com", role="owner", by=owner)
    refused = {application.pk, other_application.pk}
    assert come_by(issuer, client, email="new@example.com")["Location"] == "/account/login/"
    assert not Operator.objects.filter(email="new@example.com").exists()
    assert reasons() == ["The plan allows no more."]
    refused = {other_application.pk}
    come_by(issuer, client, email="new@example.com")
    assert is_in(client)
    assert Membership.objects.get(operator__email="new@example.com").application_id == application.pk


def test_the_second_factor_is_asked_for_as_well(client, owner, issuer):
    from tests.tenants.test_accounts import code_of, with_second_factor

    secret = with_second_factor(owner)
    assert come_by(issuer, client, email=owner.email)["Location"] == "/account/2fa/authenticate/"
    assert not is_in(client)
    assert client.post("/account/2fa/authenticate/", {"code": code_of(secret)})["Location"].startswith("/admin/")
    assert is_in(client)


def test_no_account_is_linked_to_who_is_signed_in(client, owner, issuer):
    other = operator_create(email="other@example.com", password=PASSWORD)
    client.force_login(other)
    answer = client.get("/account/oidc/oidc/login/?process=connect")
    assert answer.status_code in (302, 403, 404)
    if answer.status_code == 302 and answer["Location"].startswith(issuer.url):
        issuer.person = {"sub": "s-1", "email": owner.email, "email_verified": True}
        asked = {k: v[0] for k, v in parse_qs(urlsplit(answer["Location"]).query).items()}
        issuer.codes["c"] = asked
        client.get(f"/account/oidc/oidc/login/callback/?{urlencode({'code': 'c', 'state': asked['state']})}")
    assert not SocialAccount.objects.exists()
