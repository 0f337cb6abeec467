"""`manage.py seed_demo`: what the demo needs before its scenario can be played. Running it again adds what is missing.

An operator, the application "Demo shop" with its keys and credentials for the stand-in providers, and as many
reachable push subscriptions as asked for. Each has a place from 1 on (its tag `place`), and who it is follows from
that place alone. Two places of a hundred have removed the app: the provider will say so, and their subscription ends.
By the next run they have installed it again, with a new token and so a new subscription. With `--channels` some of them
also have an e-mail address, a number and an inbox (`_demo_channels`).

Files in the state folder, all 0600: `demo.json` (log-in and keys in clear, since the database has only digests of
them), `devices.jsonl` (for the device simulator), `inboxes.jsonl` (the same of inboxes), `apns-keys.json` and
`fcm-keys.json` (for `--keys` of the stand-ins).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.utils import timezone

from apps.sandbox.credentials import make_apns_key, make_fcm_account
from apps.subscriptions.handles import handle_for
from apps.subscriptions.models import SubscriptionType
from apps.subscriptions.services.subscriptions import token_digest
from apps.tenants.access import key_digest
from apps.tenants.models import ApiKey, Application, ChannelCredential, KeyKind, Operator, Provider
from apps.tenants.services import (
    application_create,
    credential_create,
    credential_deactivate,
    key_create,
    key_revoke,
    operator_create,
)
from automata_signal.encryption import DecryptionError, keyring
from automata_signal.ids import new_id, new_range

APPLICATION = "Demo shop"
BUNDLE_ID = "com.example.demoshop"
PROJECT_ID = "demo-shop"
GOOGLE_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 an address; the sandbox takes it for its own
BY = "seed_demo"
CHUNK = 10_000
RECIPIENTS_MAX = 2_000_000
ACTIVE_WITHIN_DAYS = 90
JOINED_WITHIN_DAYS = 240
"""Before they were last active."""


class Country(NamedTuple):
    code: str
    language: str
    share: int
    """Of a hundred places."""
    cities: tuple[str, ...]
    names: tuple[str, ...]


COUNTRIES = (
    Country("KR", "ko", 55, ("Seoul", "Busan", "Incheon", "Daegu"), ("지우", "서연", "민준", "하윤", "도윤", "수아")),
    Country("US", "en", 20, ("New York", "Austin", "Seattle"), ("Ava", "Liam", "Maya", "Noah", "Zoe")),
    Country("JP", "ja", 15, ("Tokyo", "Osaka", "Fukuoka"), ("陽菜", "蓮", "葵", "湊")),
    Country("DE", "de", 10, ("Berlin", "Köln", "Leipzig"), ("Emma", "Jonas", "Lena", "Paul")),
)
_COUNTRY_OF_A_HUNDRED = [country for country in COUNTRIES for _ in range(country.share)]
_PLAN_OF_A_HUNDRED = ["free"] * 70 + ["plus"] * 22 + ["pro"] * 8
IOS, ANDROID = SubscriptionType.IOS_PUSH.value, SubscriptionType.ANDROID_PUSH.value
IOS_MODELS = ("iPhone15,2", "iPhone16,1", "iPhone17,3", "iPad14,5")
ANDROID_MODELS = ("SM-S928N", "SM-A556N", "Pixel 9", "Pixel 8a")
APP_VERSIONS = ("2.8.0", "2.9.1", "2.10.0", "2.10.2", "3.0.0")


def has_removed_the_app(place: int) -> bool:
    """Two of a hundred, one on each platform."""
    return place % 100 in (17, 68)


class Person(NamedTuple):
    """Who holds a place, and the device; the same for every run but for the token."""

    external_id: str | None
    """None: has not signed in."""
    properties: dict[str, Any]
    tags: dict[str, Any]
    country: Country
    type: str
    device_model: str
    device_os: str
    app_version: str
    active_days_ago: float
    joined_days_ago: float
    """When they registered, if it was not just now."""

    @classmethod
    def at(cls, place: int) -> Person:
        chance = random.Random(place)
        pick = chance.choice
        country = pick(_COUNTRY_OF_A_HUNDRED)
        plan = pick(_PLAN_OF_A_HUNDRED)
        is_ios = place % 2 == 1
        person = cls(
            external_id=f"customer-{place:07d}" if chance.random() < 0.9 else None,
            properties={"name": pick(country.names), "points": chance.randrange(0, 5_000, 50)},
            tags={"place": place, "plan": plan, "vip": plan == "pro", "city": pick(country.cities)},
            country=country,
            type=IOS if is_ios else ANDROID,
            device_model=pick(IOS_MODELS if is_ios else ANDROID_MODELS),
            device_os=pick(("17.6", "18.2", "26.1") if is_ios else ("13", "14", "15", "16")),
            app_version=pick(APP_VERSIONS),
            active_days_ago=chance.random() ** 2 * ACTIVE_WITHIN_DAYS,
            joined_days_ago=0,
        )
        return person._replace(joined_days_ago=person.active_days_ago + chance.random() ** 2 * JOINED_WITHIN_DAYS)


class Command(BaseCommand):
    help = "Make or complete the demo's operator, application, keys, credentials and subscriptions."
    requires_system_checks = ()  # they import every view, which takes longer than the seeding

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--recipients", type=int, default=10_000, metavar="N", help="reachable subscriptions")
        parser.add_argument("--channels", action="store_true", help="also what the other channels need")
        parser.add_argument(
            "--state-dir", type=Path, default=settings.BASE_DIR / ".local" / "demo", help="where the files lie"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        recipients, folder = options["recipients"], options["state_dir"]
        if settings.IS_PRODUCTION:
            raise CommandError("A demo has no place in production (AUTOMATA_ENV=production).")
        if not 1 <= recipients <= RECIPIENTS_MAX:
            raise CommandError(f"--recipients must be from 1 to {RECIPIENTS_MAX}.")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = read_state(folder / "demo.json")
        of_channels = state.get("channels") or {}
        try:
            state = {**ensure_operator(state), **ensure_application(state)}
            added = ensure_subscriptions(UUID(state["application_id"]), recipients)
            if options["channels"]:
                from apps.campaigns.management.commands._demo_channels import ensure_channels, inbox_lines

                state["channels"] = ensure_channels(UUID(state["application_id"]), of_channels)
                write_private(folder / "inboxes.jsonl", inbox_lines(UUID(state["application_id"])))
            write_private(folder / "devices.jsonl", device_lines(UUID(state["application_id"])))
        except DecryptionError as error:
            raise CommandError(
                f"The demo's data was written under other keys ({error}): give the ENCRYPTION_KEYS of that time, or an "
                "empty database."
            ) from error
        write_private(folder / "demo.json", [json.dumps(state, indent=2)])
        for provider in ("apns", "fcm"):
            write_private(folder / f"{provider}-keys.json", [json.dumps(state[f"{provider}_keys"])])
        self.stdout.write(f"{APPLICATION}: {recipients:,} reachable subscriptions, {added:,} of them new")


# --- Files -------------------------------------------------------------------------------------------------------


def read_state(path: Path) -> dict[str, Any]:
    """What an earlier run kept; empty if nothing can be read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_private(path: Path, lines: Iterable[str]) -> None:
    """Write a file that only we can read; a reader sees the old content or the new."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    with draft.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    draft.replace(path)


# --- Operator, application, keys, credentials ----------------------------------------------------------------------


def ensure_operator(state: dict[str, Any]) -> dict[str, Any]:
    """A superuser whose password we know: the environment's, the one kept, or a new one."""
    email = os.environ.get("DEMO_OPERATOR_EMAIL", "demo@example.com").lower()
    password = os.environ.get("DEMO_OPERATOR_PASSWORD") or state.get("password") or secrets.token_urlsafe(12)
    operator = Operator.objects.filter(email=email).first()
    if operator is None:
        operator_create(email=email, password=password, name="Demo", is_superuser=True, by=BY)
    elif not operator.check_password(password):
        operator.set_password(password)
        operator.save(update_fields=["password"])
    return {"email": email, "password": password}


@transaction.atomic
def ensure_application(state: dict[str, Any]) -> dict[str, Any]:
    """The application, with keys and credentials that we know. What an earlier run made and nobody knows is ended."""
    if (kept := kept_application(state)) is not None:
        return kept
    application = Application.objects.filter(name=APPLICATION).order_by("id").first()
    if application is None:
        application = application_create(name=APPLICATION, time_zone="Asia/Seoul", default_language="ko", by=BY)
    for key in ApiKey.objects.for_application(application).filter(name__startswith="Demo", revoked_at=None):
        key_revoke(key=key, by=BY)
    for credential in ChannelCredential.objects.for_application(application).filter(
        name__startswith="Stand-in", is_active=True
    ):
        credential_deactivate(credential=credential, by=BY)
    apns, fcm = make_apns_key([BUNDLE_ID]), make_fcm_account(PROJECT_ID, GOOGLE_TOKEN_URI)
    credential_create(
        application=application,
        provider=Provider.APNS,
        name="Stand-in for APNs",
        secret={
            "team_id": apns.team_id,
            "key_id": apns.key_id,
            "private_key": apns.p8,
            "bundle_id": BUNDLE_ID,
            "environment": "both",
        },
        by=BY,
    )
    credential_create(
        application=application,
        provider=Provider.FCM,
        name="Stand-in for FCM",
        secret={"service_account": fcm.service_account},
        by=BY,
    )
    server = key_create(application=application, name="Demo app server", kind=KeyKind.SECRET, by=BY)
    sdk = key_create(application=application, name="Demo app", kind=KeyKind.PUBLISHABLE, by=BY)
    return {
        "application_id": str(application.pk),
        "secret_key": server.plaintext,
        "publishable_key": sdk.plaintext,
        "apns_keys": [apns.registration()],
        "fcm_keys": [fcm.registration()],
    }


def kept_application(state: dict[str, Any]) -> dict[str, Any] | None:
    """What the state says of the application, if this database still knows all of it."""
    names = ("application_id", "secret_key", "publishable_key", "apns_keys", "fcm_keys")
    if not all(state.get(name) for name in names):
        return None
    digests = [key_digest(state["secret_key"]), key_digest(state["publishable_key"])]
    keys = ApiKey.objects.filter(application_id=state["application_id"], digest__in=digests)
    credentials = ChannelCredential.objects.filter(application_id=state["application_id"], is_active=True)
    wanted = {Provider.APNS.value, Provider.FCM.value}
    if sum(key.is_usable for key in keys) != len(digests) or not wanted <= {row.provider for row in credentials}:
        return None
    return {name: state[name] for name in names}


# --- Subscriptions -------------------------------------------------------------------------------------------------


def ensure_subscriptions(application_id: UUID, recipients: int) -> int:
    """Fill the places 1 to `recipients` that no reachable subscription holds; how many were filled."""
    held = held_places(application_id, [IOS, ANDROID])
    missing = [place for place in range(1, recipients + 1) if place not in held]
    for start in range(0, len(missing), CHUNK):
        with transaction.atomic():
            people = {place: Person.at(place) for place in missing[start : start + CHUNK]}
            add_subscriptions(application_id, people, push_token, is_new=bool(held))
    if missing:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE subscriptions_subscription, subscriptions_appuser")
    return len(missing)


def held_places(application_id: UUID, types: Sequence[str]) -> set[int]:
    """Places that have a reachable subscription of one of these types. By `subscription_reachable`."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (tags->'place')::int FROM subscriptions_subscription WHERE application_id = %s AND type = ANY(%s)"
            " AND subscription_status > 0 AND NOT is_archived AND jsonb_typeof(tags->'place') = 'number'",
            [application_id, list(types)],
        )
        return {place for (place,) in cursor.fetchall()}


def add_subscriptions(
    application_id: UUID, people: Mapping[int, Person], token_of: Callable[[int, Person], str], *, is_new: bool
) -> None:
    """One subscription of the person's type for each place, with its user and the event of its registration: just now
    if `is_new`, else when the person joined."""
    now = timezone.now()
    users = add_users(application_id, people.values(), now, is_new=is_new)
    joined = {place: now if is_new else now - timedelta(days=who.joined_days_ago) for place, who in people.items()}
    ids = {place: new_id() for place in people}
    tokens = {place: token_of(place, person) for place, person in people.items()}  # may ask the database, now
    with connection.cursor() as cursor:
        with cursor.copy(_COPY_SUBSCRIPTIONS) as copy:
            for place, person in people.items():
                token = tokens[place]
                copy.write_row(
                    (
                        *(ids[place], application_id, users.get(person.external_id), person.type),
                        *(keyring().encrypt(token.encode()), token_digest(person.type, token), joined[place], 1),
                        *(person.device_model, person.device_os, person.country.language, person.app_version, "1.0.0"),
                        *(person.country.code, 0, orjson.dumps(person.tags).decode(), 1, "device", joined[place]),
                        now - timedelta(days=person.active_days_ago),
                        *(0, 0, joined[place], now, False),
                    )
                )
        with cursor.copy(_COPY_EVENTS) as copy:
            for place, person in people.items():
                key = new_range(
                    unix_ms=int(joined[place].timestamp() * 1_000)
                ).base  # in its place among what came later
                row = (key, application_id, ids[place], users.get(person.external_id))
                copy.write_row((*row, "registered", person.type, "device", "", 1, 1, joined[place]))


def add_users(application_id: UUID, people: Iterable[Person], now: datetime, *, is_new: bool) -> dict[str | None, UUID]:
    """Users of these people by external id: those there are, and new ones. By `one_user_per_external_id`."""
    signed_in = [person for person in people if person.external_id]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO subscriptions_appuser
              (id, application_id, external_id, properties, created_at, updated_at, last_active_at, is_archived)
            SELECT id, %s, external_id, properties::jsonb, joined_at, %s, last_active_at, false
            FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])
              AS new(id, external_id, properties, last_active_at, joined_at)
            ON CONFLICT (application_id, external_id) DO UPDATE SET last_active_at = excluded.updated_at
            RETURNING external_id, id
            """,
            [
                *(application_id, now),
                [new_id() for _ in signed_in],
                [person.external_id for person in signed_in],
                [orjson.dumps(person.properties).decode() for person in signed_in],
                [now - timedelta(days=person.active_days_ago) for person in signed_in],
                [now if is_new else now - timedelta(days=person.joined_days_ago) for person in signed_in],
            ],
        )
        return dict(cursor.fetchall())


_COPY_SUBSCRIPTIONS = """
    COPY subscriptions_subscription (
        id, application_id, user_id, type, token, token_digest, token_registered_at, handle_version, device_model,
        device_os, device_language, app_version, sdk_version, country_code, test_type, tags, subscription_status,
        status_source, subscribed_at, last_active_at, total_messages_received, total_messages_converted, created_at,
        updated_at, is_archived
    ) FROM STDIN
"""
_COPY_EVENTS = """
    COPY subscriptions_subscriptionevent (
        id, application_id, subscription_id, user_id, event_type, channel, source, reason, old_status, new_status,
        occurred_at
    ) FROM STDIN
"""


def push_token(place: int, person: Person) -> str:
    ios_or_android_token = apns_token if person.type == IOS else fcm_token
    return ios_or_android_token(gone=has_removed_the_app(place))


def apns_token(*, gone: bool) -> str:
    """32 bytes in hexadecimal; the stand-in answers 410 Unregistered to the marker."""
    return "dead4101" + secrets.token_hex(28) if gone else "a5" + secrets.token_hex(31)


def fcm_token(*, gone: bool) -> str:
    """As long as Firebase's; the stand-in answers 404 UNREGISTERED to the marker."""
    start = "sandbox:UNREGISTERED:" if gone else f"{secrets.token_urlsafe(16)}:APA91b"
    return start + secrets.token_urlsafe(96)


def device_lines(application_id: UUID) -> Iterator[str]:
    """A JSON line for each reachable device: what an app on it knows of itself."""
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(
            "SELECT id, token, handle_version FROM subscriptions_subscription WHERE application_id = %s"
            " AND type = ANY(%s) AND subscription_status > 0 AND NOT is_archived",
            [application_id, [IOS, ANDROID]],
        )
        for subscription_id, token, handle_version in cursor:
            device = {
                "token": keyring().decrypt(bytes(token)).decode(),
                "subscription_id": str(subscription_id),
                "handle": handle_for(subscription_id, handle_version),
            }
            yield orjson.dumps(device).decode()
