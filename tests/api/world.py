"""An application with one of everything that the API has routes for."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connection
from django.test import Client
from django.utils import timezone

from apps.analytics.models.exports import Export
from apps.analytics.reports.services import schedule_create
from apps.billing.services.quota import billing_of
from apps.campaigns.services import campaign_create, segment_create
from apps.messaging.media.services import media_create
from apps.messaging.models import MessageRequeue
from apps.messaging.services import template_create
from apps.messaging.webhooks.models import WebhookDelivery
from apps.messaging.webhooks.services import endpoint_create, endpoint_test
from apps.subscriptions.handles import HANDLE_HEADER, handle_for
from apps.subscriptions.preferences.categories import category_create
from apps.subscriptions.preferences.models import ConsentNotice, Suppression
from apps.subscriptions.preferences.suppressing import address_of, suppressions_add
from apps.tenants.models import Application, ChannelCredential, KeyKind, Operator, Role
from apps.tenants.services import key_create, membership_set, operator_create
from automata_signal.ids import new_id
from tests.conftest import ApiClient
from tests.factories import (
    make_checked_import,
    make_kakao_template,
    make_messages,
    make_subscription,
    make_user,
    pixels,
)

PASSWORD = "correct horse battery staple"


class StrictClient(ApiClient):
    """Meets the CSRF check as well, as a real client does, and may send any content type."""

    def __init__(self, token: str, **headers: str) -> None:
        super().__init__(token, **headers)
        self._client = Client(raise_request_exception=False, enforce_csrf_checks=True)

    def send(self, method: str, address: str, body: bytes, content_type: str, **headers: str):
        return self._client.generic(method, address, body, content_type, headers={**self._headers, **headers})

    def with_headers(self, **headers: str) -> StrictClient:
        client = StrictClient("")
        client._headers = {**self._headers, **headers}
        return client


@dataclass
class World:
    """`name` stands in every text of the application, so that a leak of any of them shows."""

    name: str
    application: Application
    ids: dict[str, str]
    """By the parameter of the address."""
    server: StrictClient
    sdk: StrictClient
    """The publishable key with the subscription's own handle."""
    owner: StrictClient
    root: StrictClient
    """An operator of the platform, acting in the application."""
    email: str
    revoked: StrictClient
    expired: StrictClient

    @property
    def external_id(self) -> str:
        return self.ids["external_id"]

    @property
    def handle(self) -> str:
        return handle_for(UUID(self.ids["subscription_id"]), 1)


def make_world(name: str) -> World:
    application = Application.objects.create(name=name, time_zone="Asia/Seoul")

    def key(kind: KeyKind):
        return key_create(application=application, name=f"{name} key", kind=kind)

    revoked, expired, target = key(KeyKind.SECRET), key(KeyKind.SECRET), key(KeyKind.SECRET)
    revoked.key.revoked_at = timezone.now()
    revoked.key.save()
    expired.key.expires_at = timezone.now() - timedelta(seconds=1)
    expired.key.save()
    credentials = [
        ChannelCredential.objects.create(
            application=application, provider=provider, name=f"{name} {provider}", secret={"key": f"{name} secret"}
        )
        for provider in ("apns", "fcm")
    ]
    user = make_user(application, f"{name}-user", city=f"{name} city")
    subscription = make_subscription(application, user=user, token=secrets.token_hex(32), device_model=f"{name} phone")
    template = template_create(
        application=application, created_by=name, name=f"{name} template", body_template=f"{name} says {{{{ city }}}}"
    )
    criteria = {"field": "type", "op": "in", "value": ["iOSPush"]}
    segment = segment_create(application=application, name=f"{name} segment", criteria=criteria, by=name)
    campaign = campaign_create(
        application=application, name=f"{name} campaign", title=f"{name} title", targeting_criteria={}, by=name
    )
    [message] = make_messages(application, ["pending"])
    requeue = MessageRequeue.objects.create(
        application=application, error_reason=f"{name} reason", until=timezone.now(), finished_at=timezone.now()
    )
    webhook = endpoint_create(
        application=application, url="https://hooks.example/", description=f"{name} hook"
    ).endpoint
    delivery = endpoint_test(endpoint=webhook, by=name)
    WebhookDelivery.objects.filter(pk=delivery.pk).update(state="delivered")
    media = media_create(application=application, file_name=f"{name} logo.png", chunks=[pixels()], by=name)
    kakao_template = make_kakao_template(application, name)
    imported = make_checked_import(application, file_name=f"{name} people.csv", external_id=f"{name}-imported")
    category = category_create(application=application, slug="news", name_en=f"{name} news")
    address = address_of("Email", f"{name}@example.com", reason="manual", note=f"{name} note")
    suppressions_add(application_id=application.pk, addresses=[address], source="api", by=name)
    suppression = Suppression.objects.get(application=application)
    notice = ConsentNotice.objects.create(
        application=application,
        kind="result",
        user=user,
        channel="email",
        about_id=new_id(),
        said_at=timezone.now(),
        what="given",
        due_at=timezone.now(),
        note=f"{name} notice",
    )
    email = f"{name}-owner@example.com"
    operator = make_operator(email)
    membership_set(operator=operator, application=application, role=Role.OWNER)
    billing_of(application)
    root = make_operator(f"{name}-root@example.com", is_superuser=True)
    report = schedule_create(application=application, kind="weekly", roles=["owner"], by=name)
    export = Export.objects.create(
        application=application, kind="users", filters={"until": "2026-01-01T00:00:00+00:00"}, requested_by=name
    )
    handle = handle_for(subscription.pk, subscription.handle_version)
    return World(
        name=name,
        application=application,
        ids={
            "key_id": str(target.key.pk),
            "credential_id": str(credentials[0].pk),
            "user_id": str(user.pk),
            "external_id": user.external_id,
            "subscription_id": str(subscription.pk),
            "template_id": str(template.pk),
            "segment_id": str(segment.pk),
            "campaign_id": str(campaign.pk),
            "message_id": str(message.pk),
            "requeue_id": str(requeue.pk),
            "report_id": str(report.pk),
            "export_id": str(export.pk),
            "import_id": str(imported.pk),
            "media_id": str(media.pk),
            "kakao_template_id": str(kakao_template.pk),
            "kakao_channel_id": str(kakao_template.channel_id),
            "category_id": str(category.pk),
            "suppression_id": str(suppression.pk),
            "notice_id": str(notice.pk),
            "webhook_id": str(webhook.pk),
            "delivery_id": str(delivery.pk),
        },
        server=StrictClient(key(KeyKind.SECRET).plaintext),
        sdk=StrictClient(key(KeyKind.PUBLISHABLE).plaintext, **{HANDLE_HEADER: handle}),
        owner=sign_in(email, application),
        root=sign_in(root.email, application),
        email=email,
        revoked=StrictClient(revoked.plaintext),
        expired=StrictClient(expired.plaintext),
    )


def make_operator(email: str, **fields) -> Operator:
    return operator_create(email=email, password=PASSWORD, name=email.partition("@")[0], **fields)


def sign_in(email: str, application: Application | None = None) -> StrictClient:
    answer = ApiClient("").post("auth/login", {"email": email, "password": PASSWORD})
    assert answer.status_code == 200, answer.content
    headers = {"x-application-id": str(application.pk)} if application else {}
    return StrictClient(answer.json()["data"]["access"], **headers)


def missing_ids() -> dict[str, str]:
    """Ids that look like real ones, of nothing."""
    names = ("key_id", "credential_id", "user_id", "subscription_id", "template_id", "segment_id", "campaign_id")
    names = (*names, "message_id", "requeue_id", "import_id", "report_id", "export_id", "webhook_id", "delivery_id")
    names = (*names, "category_id", "suppression_id", "notice_id", "media_id", "kakao_template_id", "kakao_channel_id")
    return {name: str(new_id()) for name in names} | {"external_id": "nobody"}


# --- What the database holds -----------------------------------------------------------------------------------------

# Reading them changes nothing that belongs to anybody: when a key was used, what was signed in.
_OF_THE_ACCESS_ITSELF = ("token_blacklist_outstandingtoken", "token_blacklist_blacklistedtoken", "django_session")


def _tables() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1"
        )
        return [name for (name,) in cursor.fetchall() if name not in _OF_THE_ACCESS_ITSELF]


def row_counts() -> dict[str, int]:
    """How many rows each table has."""
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"SELECT '{name}', count(*) FROM {name}" for name in _tables()))
        return dict(cursor.fetchall())


def rows() -> dict[str, str]:
    """A digest of each table's rows."""
    return _digests("true", [])


def rows_about(world: World) -> dict[str, str]:
    """A digest of each table's rows that hold one of the world's ids."""
    ids = [str(world.application.pk), *world.ids.values()]
    return _digests("to_jsonb(t)::text ~ %s", ["|".join(ids)])


def _digests(condition: str, parameters: list[str]) -> dict[str, str]:
    select = (
        "SELECT '{0}', md5(coalesce(string_agg((to_jsonb(t) - '{{last_used_at,last_used_from}}'::text[])::text, ' '"
        " ORDER BY to_jsonb(t)), '')) FROM {0} t WHERE "
    )
    tables = _tables()
    with connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(select.format(name) + condition for name in tables),
            parameters * len(tables) or None,
        )
        return dict(cursor.fetchall())


# --- What an answer says ---------------------------------------------------------------------------------------------


def said(answer, **aliases: str) -> bytes:
    """Status, headers that mean something, and body without `meta`; each alias's text reads as its name."""
    body = answer.content
    if body and answer["Content-Type"].startswith("application/json"):
        document = json.loads(body)
        document.pop("meta", None)
        body = json.dumps(document).encode()
    unmeaning = ("x-request-id", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "content-length")
    headers = sorted(f"{name}: {value}" for name, value in answer.items() if name.lower() not in unmeaning)
    text = b"\n".join([str(answer.status_code).encode(), *(header.encode() for header in headers), body])
    for name, value in aliases.items():
        text = text.replace(value.encode(), name.encode())
    return text


def is_in_the_envelope(answer) -> bool:
    """A refusal as the API tells it."""
    if not answer["Content-Type"].startswith("application/json"):
        return False
    body = answer.json()
    return body["success"] is False and bool(body["error"]["code"]) and {"timestamp", "version"} <= body["meta"].keys()
