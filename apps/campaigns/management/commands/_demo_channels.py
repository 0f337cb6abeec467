"""What the demo's other channels need: credentials for their stand-ins, and people with an address on each of them.

The first places that have signed in get an e-mail address, a number, KakaoTalk and an inbox. Some addresses lead
nowhere, which the stand-ins say by the address itself: 2 of a hundred e-mail addresses, one of a hundred numbers, and
4 of a hundred numbers belong to nobody who uses KakaoTalk. Whoever was ended for that has another address by the next
run. One more without KakaoTalk is left out of the campaign, for README's first calls.
"""

from __future__ import annotations

import json
import os
import random
import secrets
from collections.abc import Container, Iterator, Mapping
from itertools import count, islice, product
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.campaigns.management.commands.seed_demo import BY, Person, add_subscriptions, held_places
from apps.sandbox.gateway_credentials import NhnApp, SolapiAccount, TwilioAccount
from apps.subscriptions.handles import handle_for
from apps.subscriptions.models import Subscription, SubscriptionType
from apps.subscriptions.services.subscriptions import token_digest
from apps.tenants.models import Application, ChannelCredential, Provider
from apps.tenants.services import credential_create, credential_deactivate, credential_update

EMAIL, SMS = SubscriptionType.EMAIL.value, SubscriptionType.SMS.value
KAKAO, IN_APP = SubscriptionType.KAKAO_TALK.value, SubscriptionType.IN_APP_MESSAGE.value
AUDIENCES = {EMAIL: 400, SMS: 300, KAKAO: 100, IN_APP: 200}
"""How many people have each."""
DOMAIN = "demo-shop.example"
SENDER_NUMBER, TWILIO_NUMBER = "0212345678", "+15005550006"
PROFILE = "KA01PF260101000000000000000000demo"
TEMPLATE_CODE = "KA01TP260101000000000000000000demo"
TEMPLATE = {
    "id": TEMPLATE_CODE,
    "profile": PROFILE,
    "name": "Order shipped",
    "content": "#{name}님, 주문하신 상품 #{order}이(가) 출발했습니다.",
    "buttons": [{"buttonName": "배송 조회", "buttonType": "WL", "linkMo": "https://demo-shop.example/orders"}],
}
NOBODYS_NUMBER, NO_KAKAOTALK = "3050", "3104"
"""Solapi's codes."""


def ensure_channels(application_id: UUID, kept: Mapping[str, Any]) -> dict[str, Any]:
    """Credentials and subscriptions of the channels; for the state file, what the scenario must tell the stand-ins."""
    application = Application.objects.get(pk=application_id)
    state = _kept_credentials(application, kept) or _new_credentials(application)
    _point_to_relay(state)
    audiences = {}
    for type, wanted in AUDIENCES.items():
        people = dict(islice(_signed_in(), wanted))
        guests = dict(islice(_signed_in(), wanted, wanted + 1)) if type == KAKAO else {}
        held = held_places(application_id, [type])
        missing = {place: _with(person, type) for place, person in (people | guests).items() if place not in held}
        with transaction.atomic():
            addresses = _Addresses(application_id, without_kakaotalk=guests)
            add_subscriptions(application_id, missing, addresses, is_new=bool(held))
        audiences[type] = {"people": len(people), "last_place": max(people)}
    return {**state, "audiences": audiences}


# --- Credentials ---------------------------------------------------------------------------------------------------


def _kept_credentials(application: Application, kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the state says, if this database still has all of its credentials."""
    ids = kept.get("credentials") or {}
    rows = ChannelCredential.objects.for_application(application).filter(pk__in=ids.values(), is_active=True)
    if not ids or rows.count() != len(ids):
        return None
    return {name: kept[name] for name in ("credentials", "smtp", "solapi", "twilio", "nhn")}


@transaction.atomic
def _new_credentials(application: Application) -> dict[str, Any]:
    """Solapi carries texts and Alimtalk; Twilio and NHN Cloud stand by, and take over when its breaker opens."""
    ours = ChannelCredential.objects.for_application(application).filter(name__startswith="Stand-in", is_active=True)
    for credential in ours.exclude(provider__in=[Provider.APNS, Provider.FCM]):
        credential_deactivate(credential=credential, by=BY)
    texts, alimtalk = SolapiAccount(), SolapiAccount()  # one address for reports each
    twilio, nhn_sms, nhn_kakao = TwilioAccount(), NhnApp(service="sms"), NhnApp(service="kakao")
    relay = {"username": "demo-shop", "password": secrets.token_urlsafe(12)}
    secrets_of: dict[str, dict[str, Any]] = {
        Provider.SMTP: _relay_secret(relay),
        Provider.SOLAPI: {**_solapi_secret(texts), "from": SENDER_NUMBER},
        Provider.TWILIO: {
            "account_sid": twilio.account_sid,
            "auth_token": twilio.auth_token,
            "from": TWILIO_NUMBER,
        },
        Provider.NHN_SMS: {**_nhn_secret(nhn_sms), "from": SENDER_NUMBER},
        Provider.SOLAPI_KAKAO: _solapi_secret(alimtalk),
        Provider.NHN_KAKAO: _nhn_secret(nhn_kakao),
    }
    ids = {
        str(provider): str(
            credential_create(
                application=application,
                provider=provider,
                name=f"Stand-in for {Provider(provider).label}"[:60],
                secret=secret,
                position=position,
                by=BY,
            ).pk
        )
        for position, (provider, secret) in enumerate(secrets_of.items())
    }
    return {
        "credentials": ids,
        "smtp": {"keys": [{**relay, "domains": [DOMAIN]}], "login": relay},
        "solapi": {
            "keys": [texts.registration(), alimtalk.registration()],
            "hooks": [
                _hook("solapi", ids, texts.webhook_secret, account=texts.api_key),
                _hook("solapi_kakao", ids, alimtalk.webhook_secret, account=alimtalk.api_key),
            ],
            "senders": [SENDER_NUMBER],
            "profiles": [PROFILE],
            "templates": [TEMPLATE],
        },
        "twilio": {"keys": [twilio.registration()], "senders": [TWILIO_NUMBER]},
        "nhn": {
            "keys": [nhn_sms.registration(), nhn_kakao.registration()],
            "hooks": [
                _hook("nhn_sms", ids, nhn_sms.webhook_signature, account=nhn_sms.app_key, service="sms"),
                _hook("nhn_kakao", ids, nhn_kakao.webhook_signature, account=nhn_kakao.app_key, service="kakao"),
            ],
            "senders": [SENDER_NUMBER],
            "profiles": [],
            "templates": [],
        },
    }


def _solapi_secret(account: SolapiAccount) -> dict[str, str]:
    return {
        "api_key": account.api_key,
        "api_secret": account.api_secret,
        "webhook_secret": account.webhook_secret,
    }


def _nhn_secret(app: NhnApp) -> dict[str, str]:
    return {"app_key": app.app_key, "secret_key": app.secret_key, "webhook_signature": app.webhook_signature}


def _relay_secret(login: Mapping[str, str]) -> dict[str, Any]:
    """The stand-in's port is another one in each demo."""
    return {
        "host": "127.0.0.1",
        "port": int(os.environ.get("SANDBOX_SMTP_PORT", "587")),
        "security": "starttls",
        **login,
        "from_address": f"news@{DOMAIN}",
        "from_name": "Demo shop",
        "track_opens": True,
        "track_clicks": True,
    }


def _hook(provider: str, ids: Mapping[str, str], secret: str, **more: str) -> dict[str, str]:
    """Where the gateway is to report."""
    return {"path": f"/webhooks/{provider}/{ids[provider]}", "secret": secret, **more}


def _point_to_relay(state: Mapping[str, Any]) -> None:
    row = ChannelCredential.objects.get(pk=state["credentials"]["smtp"])
    secret = _relay_secret(state["smtp"]["login"])
    if row.secret != secret:
        credential_update(credential=row, secret=secret, by=BY)


# --- People --------------------------------------------------------------------------------------------------------


def _signed_in() -> Iterator[tuple[int, Person]]:
    """From the first place on."""
    people = ((place, Person.at(place)) for place in count(1))
    return ((place, person) for place, person in people if person.external_id)


def _with(person: Person, type: str) -> Person:
    """Their subscription on a channel that no device has, or their inbox."""
    if type == IN_APP:
        return person._replace(type=type)
    return person._replace(type=type, device_model="", device_os="", app_version="")


class _Addresses:
    """Gives each person an address that nobody has had."""

    def __init__(self, application_id: UUID, *, without_kakaotalk: Container[int]) -> None:
        self._application_id, self._without_kakaotalk = application_id, without_kakaotalk
        self._given: set[bytes] = set()

    def __call__(self, place: int, person: Person) -> str:
        if person.type == IN_APP:
            return secrets.token_urlsafe(32)
        if person.type == EMAIL:
            marker = "+550-5.1.1" if place % 50 == 11 else ""
            return f"{person.external_id}.{secrets.token_hex(2)}{marker}@mail.example"
        if person.type == SMS and place % 100 == 21:
            return self._marked(SMS, NOBODYS_NUMBER) or _number(place)
        if person.type == KAKAO and (place % 25 == 4 or place in self._without_kakaotalk):
            return self._marked(KAKAO, NO_KAKAOTALK) or _number(place)
        return _number(place)

    def _marked(self, type: str, code: str) -> str:
        """A number at which Solapi's stand-in reports this code; "" when all of them were used."""
        numbers = [f"+821002{code}{times}{digit}" for times, digit in product(range(10), repeat=2)]
        digests = {token_digest(type, number): number for number in numbers}
        rows = Subscription.with_archived.filter(
            application_id=self._application_id, type=type, token_digest__in=list(digests)
        )
        used = {bytes(digest) for digest in rows.values_list("token_digest", flat=True)}
        free = sorted(set(digests) - used - self._given)
        if not free:
            return ""
        chosen = random.choice(free)
        self._given.add(chosen)
        return digests[chosen]


def _number(place: int) -> str:
    return f"+8210{20_000_000 + place}"


def inbox_lines(application_id: UUID) -> Iterator[str]:
    """A JSON line for each inbox: what an app on its device knows of itself."""
    rows = Subscription.objects.filter(application_id=application_id, type=IN_APP, subscription_status__gt=0)
    for pk, version in rows.order_by("tags__place").values_list("pk", "handle_version"):
        yield json.dumps({"subscription_id": str(pk), "handle": handle_for(pk, version)})
