"""Rows that tests start from, made as the product makes them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.utils import timezone
from PIL import Image

from apps.messaging.kakao.models import KakaoChannel, KakaoTemplate
from apps.messaging.models import Dispatch, DispatchBatch, Message
from apps.subscriptions.handles import handle_for
from apps.subscriptions.imports.models import Import
from apps.subscriptions.imports.services import ImportOptions, import_create
from apps.subscriptions.imports.steps import import_run
from apps.subscriptions.models import AppUser, Subscription
from apps.subscriptions.services.subscriptions import token_digest
from apps.tenants.models import Application
from apps.tenants.services import credential_create
from automata_signal.ids import new_range


def make_subscription(application: Application, *, type: str = "iOSPush", token: str = "", **fields) -> Subscription:
    """A subscribed subscription; the token is a fresh one unless told."""
    token = token or timezone.now().strftime("%s%f").zfill(64)[-64:] + f"{Subscription.objects.count():06x}"[-6:]
    token = token if type != "iOSPush" else token[-64:].rjust(64, "a")
    fields = {"subscription_status": 1, "subscribed_at": timezone.now()} | fields
    return Subscription.objects.create(
        application=application, type=type, token=token, token_digest=token_digest(type, token), **fields
    )


def make_subscriptions(application: Application, tokens: Sequence[str], *, type: str = "iOSPush", **fields):
    """Many at once."""
    rows = [
        Subscription(
            application=application,
            type=type,
            token=token,
            token_digest=token_digest(type, token),
            **{"subscription_status": 1, "subscribed_at": timezone.now()} | fields,
        )
        for token in tokens
    ]
    return Subscription.objects.bulk_create(rows)


def make_user(application: Application, external_id: str = "u-1", **properties) -> AppUser:
    return AppUser.objects.create(application=application, external_id=external_id, properties=properties)


def make_kakao_template(application: Application, mark: str = "") -> KakaoTemplate:
    """An approved Alimtalk template of a channel and a credential of its own."""
    secret = {"app_key": "abcdefgh", "secret_key": "not-a-real-one"}
    credential = credential_create(application=application, provider="nhn_kakao", name=f"{mark} kakao", secret=secret)
    channel = KakaoChannel.objects.create(
        application=application, credential=credential, provider="nhn_kakao", sender_key="k" * 40, search_id=f"@{mark}"
    )
    return KakaoTemplate.objects.create(
        application=application,
        channel=channel,
        code="T1",
        name=f"{mark} template",
        content="#{name}",
        state="approved",
        comments=[{"text": f"{mark} comment", "by": "kakao", "at": ""}],
    )


def make_dispatch(application: Application, **fields) -> Dispatch:
    defaults = {"channel_type": "push", "priority": "medium", "title": "Hi", "body": "There", "ttl_s": 3_600}
    return Dispatch.objects.create(application=application, **defaults | fields)


def make_messages(
    application: Application,
    states: Sequence[str],
    *,
    dispatch: Dispatch | None = None,
    campaign_id: UUID | None = None,
) -> list[Message]:
    """One message in each of these states, all in one batch, each to a subscription of its own."""
    dispatch = dispatch or make_dispatch(application, campaign_id=campaign_id)
    ids = new_range()
    DispatchBatch.objects.create(
        dispatch=dispatch,
        application=application,
        subscription_type="iOSPush",
        priority=dispatch.priority,
        expires_at=timezone.now() + timedelta(hours=1),
        first_id=ids.base,
        recipient_count=len(states),
    )
    subscriptions = make_subscriptions(application, [f"{ids.at(n).hex:0>64}" for n in range(len(states))])
    rows = [
        Message(
            id=ids.at(n),
            application=application,
            dispatch=dispatch,
            campaign_id=campaign_id,
            subscription=subscriptions[n],
            channel_type="push",
            status=state,
        )
        for n, state in enumerate(states)
    ]
    return Message.objects.bulk_create(rows)


def handle_of(message: Message) -> str:
    """The secret handle that the message's device has."""
    subscription = Subscription.with_archived.get(pk=message.subscription_id)
    return handle_for(subscription.pk, subscription.handle_version)


def make_checked_import(application: Application, *, file_name: str, external_id: str) -> Import:
    """An import of one user that waits for being applied."""
    run = import_create(
        application=application,
        kind="users",
        file_name=file_name,
        chunks=[f"external_id\n{external_id}\n".encode()],
        options=ImportOptions(),
        by="tests",
    )
    while import_run(run.pk):
        pass
    run.refresh_from_db()
    return run


def pixels(width: int = 16, height: int = 16) -> bytes:
    """A PNG."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, "PNG")
    return out.getvalue()
