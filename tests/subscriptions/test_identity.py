"""Identity verification: nobody logs in as somebody else with a publishable key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from apps.subscriptions.models import AppUser

pytestmark = pytest.mark.django_db


def b64(value) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def test_a_signed_login_is_let_in(device, signer):
    assert device.login("anna", identity_token=signer.sign("anna")).json()["data"]["external_id"] == "anna"


@pytest.mark.parametrize("body", [{}, {"identity_token": None}])
def test_a_login_without_a_token_is_refused(device, signer, body):
    answer = device.login("anna", **body)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "IDENTITY_TOKEN_REQUIRED"
    assert not AppUser.objects.exists()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sub": "bert"}, "INVALID"),
        ({"sub": "Anna"}, "INVALID"),
        ({"sub": 5}, "INVALID"),
        ({"sub": ...}, "INVALID"),
        ({"aud": "another application"}, "INVALID"),
        ({"aud": ...}, "INVALID"),
        ({"aud": ["another"]}, "INVALID"),
        ({"iat": ...}, "INVALID"),
        ({"exp": ...}, "INVALID"),
        ({"iat": None}, "INVALID"),
        ({"exp": "soon"}, "INVALID"),
        ({"exp": float("inf")}, "INVALID"),
        ({"exp": float("nan")}, "INVALID"),
        ({"iat": [1]}, "INVALID"),
        ({"iat": time.time() + 3_000, "exp": time.time() + 3_500}, "INVALID"),
        ({"nbf": time.time() + 3_000}, "INVALID"),
        ({"exp": time.time() + 7_200}, "INVALID"),
        ({"exp": 10**20}, "INVALID"),
        ({"iat": time.time() - 4_000, "exp": time.time() - 500}, "EXPIRED"),
    ],
)
def test_wrong_claims_are_refused(device, signer, changes, code):
    answer = device.login("anna", identity_token=signer.sign("anna", **changes))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, f"IDENTITY_TOKEN_{code}")
    assert answer.json()["error"]["details"][0]["field"] == "identity_token"
    assert not AppUser.objects.exists()


def forgeries(signer) -> dict[str, str]:
    claims = signer.claims("anna")
    good = signer.sign("anna")
    header, payload, signature = good.split(".")
    hs256 = f"{b64({'alg': 'HS256', 'typ': 'JWT'})}.{b64(claims)}"
    hmac_signature = b64(hmac.digest(signer.public_pem.encode(), hs256.encode(), hashlib.sha256))
    stranger = ec.generate_private_key(ec.SECP256R1())
    return {
        "alg none": f"{b64({'alg': 'none', 'typ': 'JWT'})}.{payload}.",
        "alg none with the signature": f"{b64({'alg': 'none'})}.{payload}.{signature}",
        "the public key as an HMAC secret": f"{hs256}.{hmac_signature}",
        "another key": jwt.encode(claims, stranger, algorithm="ES256"),
        "another key in the header": jwt.encode(
            claims, stranger, algorithm="ES256", headers={"jwk": {"kty": "EC"}, "jku": "https://evil.example/k"}
        ),
        "another curve": jwt.encode(claims, ec.generate_private_key(ec.SECP384R1()), algorithm="ES384"),
        "changed payload": f"{header}.{b64({**claims, 'sub': 'anna', 'exp': claims['exp'] + 1})}.{signature}",
        "no signature": f"{header}.{payload}.",
        "zero signature": f"{header}.{payload}.{b64(bytes(64))}",
        "unknown critical header": jwt.encode(claims, signer.key, algorithm="ES256", headers={"crit": ["x"], "x": 1}),
        "no object": jwt.api_jws.encode(b"[1]", signer.key, algorithm="ES256"),
        "no JWT": "nonsense",
        "three dots": "...",
        "not ASCII": "é.ü.ö",
    }


def test_a_forged_token_is_refused(subtests, device, signer):
    for name, token in forgeries(signer).items():
        with subtests.test(name):
            answer = device.login("anna", identity_token=token)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "IDENTITY_TOKEN_INVALID")
    assert not AppUser.objects.exists()


def test_the_app_server_is_believed_without_a_token(server, device, signer):
    answer = server.post(f"subscriptions/{device.id}/login", {"external_id": "anna"})
    assert answer.json()["data"]["external_id"] == "anna"


def test_where_proof_is_not_required_a_wrong_one_is_still_refused(application, device, signer):
    application.settings["identity_verification"]["required"] = False
    application.save()
    assert device.login("anna").status_code == 200
    assert device.login("anna", identity_token=signer.sign("bert")).status_code == 403
    assert device.login("bert", identity_token=signer.sign("bert")).status_code == 200


def test_a_required_proof_without_a_key_lets_nobody_in(application, device):
    application.settings = {"identity_verification": {"required": True}}
    application.save()
    assert device.login("anna", identity_token="a.b.c").json()["error"]["code"] == "IDENTITY_TOKEN_INVALID"


@pytest.mark.parametrize("token", [5, {}, "x" * 4_097])
def test_a_token_of_the_wrong_type_or_size_is_a_400(device, signer, token):
    assert device.login("anna", identity_token=token).status_code == 400
