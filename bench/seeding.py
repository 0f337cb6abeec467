"""Audiences for benchmarks, made in sets: a million subscriptions in well under a minute.

Who they are follows the demo's shares of countries, plans and versions, by arithmetic on the place instead of a
`Person` each. They have no registration events. Secondary indexes are made after the rows, in the order
the catalogue has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg

from apps.campaigns.management.commands.seed_demo import (
    ANDROID,
    APP_VERSIONS,
    COUNTRIES,
    IOS,
    apns_token,
    fcm_token,
)
from apps.messaging.services import template_create
from apps.sandbox.credentials import ApnsKey, FcmAccount
from apps.subscriptions.services.subscriptions import token_digest
from apps.tenants.models import Application, Provider
from apps.tenants.services import application_create, credential_create
from automata_signal.encryption import keyring
from automata_signal.ids import new_id

BUNDLE_ID = "com.example.bench"
TABLES = ("subscriptions_subscription", "subscriptions_appuser")


def make_application(name: str, apns: ApnsKey, fcm: FcmAccount) -> Application:
    """An application with both push credentials, and the template `personal`."""
    application = application_create(name=name, by="bench")
    secret = {
        "team_id": apns.team_id,
        "key_id": apns.key_id,
        "private_key": apns.p8,
        "bundle_id": BUNDLE_ID,
        "environment": "both",
    }
    credential_create(application=application, provider=Provider.APNS, name="bench", secret=secret, by="bench")
    account = {"service_account": fcm.service_account}
    credential_create(application=application, provider=Provider.FCM, name="bench", secret=account, by="bench")
    template_create(
        application=application,
        created_by="bench",
        name="personal",
        title_template="Hello {{ name }}",
        body_template="You have {{ points }} points, and the sale in {{ city }} begins today.",
        data_template={"plan": "{{ plan }}", "link": "shop://sale/42"},
    )
    return application


def add_subscriptions(database_url: str, application: Application, count: int, *, type: str = "") -> None:
    """`count` reachable subscriptions of a type, or half of each push platform; nine of ten with a user of their own.

    In two sessions: the three version columns that PostgreSQL derives cost 45 µs a row.
    """
    half = count // 2
    with _connect(database_url) as connection, _indexes_made_at_the_end(connection):
        with ThreadPoolExecutor(max_workers=2) as pool:
            jobs = [
                pool.submit(_add, database_url, application.pk, places, type)
                for places in (range(1, half + 1), range(half + 1, count + 1))
            ]
        for job in jobs:
            job.result()
    vacuum(database_url, *TABLES)


def vacuum(database_url: str, *tables: str) -> None:
    with _connect(database_url) as connection:
        connection.execute(f"VACUUM (ANALYZE) {', '.join(tables)}")


def _connect(database_url: str, *, autocommit: bool = True) -> psycopg.Connection[Any]:
    return psycopg.connect(database_url, autocommit=autocommit, application_name="bench")


def _add(database_url: str, application_id: UUID, places: Iterable[int], type: str) -> None:
    with _connect(database_url, autocommit=False) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")  # what we make refers to what we made
        connection.execute(
            "CREATE TEMP TABLE seed (place int, id uuid, user_id uuid, type text, token bytea, digest bytea)"
            " ON COMMIT DROP"
        )
        with connection.cursor() as cursor, cursor.copy("COPY seed FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "uuid", "uuid", "text", "bytea", "bytea"])
            for row in _rows(places, type):
                copy.write_row(row)
        connection.execute("ANALYZE seed")
        parameters = _parameters(application_id)
        connection.execute(_USERS, parameters)
        connection.execute(_SUBSCRIPTIONS, parameters)


def _rows(places: Iterable[int], type: str) -> Iterator[tuple[int, UUID, UUID | None, str, bytes, bytes]]:
    encrypt = keyring().encrypt
    for place in places:
        of_type = type or (IOS if place % 2 else ANDROID)
        token = address(of_type, place)
        digest = token_digest(of_type, token)
        yield place, new_id(), new_id() if place % 10 else None, of_type, encrypt(token.encode()), digest


def address(type: str, place: int) -> str:
    """In the form in which subscriptions keep it; none that a stand-in takes for a marker."""
    match type:
        case "Email":
            return f"customer-{place:07d}@mail.example"
        case "SMS" | "KakaoTalk":
            return f"+8210{20_000_000 + place}"
        case "AndroidPush":
            return fcm_token(gone=False)
        case _:
            return apns_token(gone=False)


def _parameters(application_id: UUID) -> dict[str, Any]:
    of_a_hundred = [country for country in COUNTRIES for _ in range(country.share)]
    return {
        "application": application_id,
        "countries": [country.code for country in of_a_hundred],
        "languages": [country.language for country in of_a_hundred],
        "cities": [country.cities[0] for country in of_a_hundred],
        "names": [country.names[0] for country in of_a_hundred],
        "plans": ["free"] * 70 + ["plus"] * 22 + ["pro"] * 8,
        "versions": list(APP_VERSIONS),
        "ios": IOS,
    }


def _chance(salt: int, sides: int) -> str:
    """A die of so many sides, 1 the least; the same for a place each time."""
    return f"(1 + mod(hashint4extended(place, {salt}) & 2147483647, {sides}))::int"


_COUNTRY, _PLAN = _chance(1, 100), _chance(2, 100)
_LAST_ACTIVE = f"now() - interval '90 days' * ({_chance(3, 1_000)} / 1000.0) ^ 2"
_USERS = f"""
    INSERT INTO subscriptions_appuser
        (id, application_id, external_id, properties, created_at, updated_at, last_active_at, is_archived)
    SELECT user_id, %(application)s, 'customer-' || lpad(place::text, 7, '0'),
           jsonb_build_object('name', (%(names)s::text[])[{_COUNTRY}], 'points', 50 * {_chance(4, 100)}),
           now(), now(), {_LAST_ACTIVE}, false
    FROM seed WHERE user_id IS NOT NULL ORDER BY place
"""
_SUBSCRIPTIONS = f"""
    INSERT INTO subscriptions_subscription (
        id, application_id, user_id, type, token, token_digest, token_registered_at, handle_version, device_model,
        device_os, device_language, app_version, sdk_version, country_code, test_type, tags, subscription_status,
        status_source, subscribed_at, last_active_at, total_messages_received, total_messages_converted, created_at,
        updated_at, is_archived
    )
    SELECT id, %(application)s, user_id, type, token, digest, now(), 1,
           CASE WHEN type = %(ios)s THEN 'iPhone16,1' ELSE 'SM-S928N' END,
           CASE WHEN type = %(ios)s THEN '18.2' ELSE '15' END,
           (%(languages)s::text[])[{_COUNTRY}], (%(versions)s::text[])[{_chance(5, len(APP_VERSIONS))}], '1.0.0',
           (%(countries)s::text[])[{_COUNTRY}], 0,
           jsonb_build_object('plan', (%(plans)s::text[])[{_PLAN}], 'vip', {_PLAN} > 92,
                              'city', (%(cities)s::text[])[{_COUNTRY}], 'place', place),
           1, 'device', now(), {_LAST_ACTIVE}, 0, 0, now(), now(), false
    FROM seed ORDER BY place
"""


@contextmanager
def _indexes_made_at_the_end(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Drop the indexes that are no constraint, and make them again: several times as fast as keeping them."""
    found = connection.execute(
        "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i"
        " WHERE i.indrelid = ANY(%s::regclass[])"
        " AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid) ORDER BY 1",
        [list(TABLES)],
    ).fetchall()
    connection.execute("SET maintenance_work_mem = '256MB'")
    for name, _ in found:
        connection.execute(f"DROP INDEX {name}")
    yield
    for _, definition in found:
        connection.execute(definition)
