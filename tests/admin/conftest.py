"""An application with everything in it, a second one just the same, and operators who are signed in to the console."""

from __future__ import annotations

import secrets
import time
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from djmoney.money import Money
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken

from apps.analytics.models import Export, ReportRun
from apps.analytics.reports.services import schedule_create as report_create
from apps.billing.models import BillingAlert, MessageQuota, Plan
from apps.billing.services.ledger import credit_top_up
from apps.billing.services.quota import billing_of
from apps.billing.services.settings import alert_settings_set
from apps.campaigns.models import CampaignApproval, CampaignFailure
from apps.campaigns.services import campaign_create, campaign_launch, fan_out, segment_create
from apps.messaging import lifecycle
from apps.messaging.inbox.models import InboxItem
from apps.messaging.media.services import media_create, media_variant
from apps.messaging.models import Dispatch, DispatchBatch, FollowUp, GatewayRequest, MessageEvent, MessageRequeue
from apps.messaging.recorders import StatusCount, record
from apps.messaging.services import template_create, template_update
from apps.messaging.webhooks.models import WebhookReader
from apps.messaging.webhooks.services import endpoint_create, endpoint_test, secret_rotate
from apps.sandbox.credentials import make_apns_key, make_fcm_account
from apps.subscriptions.data_requests.services import data_request_create
from apps.subscriptions.models import SubscriptionEvent
from apps.subscriptions.preferences.categories import category_create
from apps.subscriptions.preferences.consents import Choices, MarketingChoice, preferences_set
from apps.subscriptions.preferences.models import (
    ActiveHours,
    ConsentEvent,
    ConsentNotice,
    MarketingConsent,
    OptIn,
    Preference,
    SendTiming,
    Suppression,
    SuppressionEvent,
)
from apps.subscriptions.preferences.subjects import Subject
from apps.subscriptions.preferences.suppressing import address_of, suppressions_add
from apps.subscriptions.services import subscription_register, user_create
from apps.subscriptions.status import Setter
from apps.tenants.accounts.middleware import BEGAN, SEEN
from apps.tenants.accounts.models import Invitation
from apps.tenants.audit.services import audit
from apps.tenants.models import Application, IdempotencyRecord, KeyKind, Operator, Role
from apps.tenants.operations.models import PlatformSwitch
from apps.tenants.services import credential_create, key_create, key_rotate, membership_set
from apps.tenants.sign_in import sign_in
from tests.factories import make_checked_import, make_kakao_template, make_messages, pixels

PASSWORD = "correct horse battery staple"


@dataclass
class World:
    """One application's rows by model label, and what must never be shown of them."""

    application: Application
    rows: dict[str, object] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    """Texts that only this application's rows hold."""

    def add(self, row):
        self.rows[row._meta.label] = row
        return row

    def __getitem__(self, label: str):
        return self.rows[label]


@pytest.fixture(scope="session")
def provider_keys():
    key = make_apns_key(["com.example.shop"])
    account = make_fcm_account("demo-shop", "https://oauth2.googleapis.com/token")
    return key, account


def make_world(application: Application, mark: str, provider_keys, *, people: int = 3) -> World:
    """At least one row of every model of an application; `mark` is in every name."""
    world = World(application, marks=[mark])
    world.add(application)
    apns_key, account = provider_keys
    secret = {
        "team_id": apns_key.team_id,
        "key_id": apns_key.key_id,
        "private_key": apns_key.p8,
        "bundle_id": "com.example.shop",
        "environment": "both",
    }
    fcm = {"service_account": account.service_account}
    credential_create(application=application, provider="fcm", name=f"{mark} fcm", secret=fcm)
    world.add(credential_create(application=application, provider="apns", name=f"{mark} apns", secret=secret))
    world.secrets += [line for line in apns_key.p8.splitlines() if "KEY" not in line and line]
    world.secrets += account.service_account["private_key"].splitlines()[1:3]

    new = key_create(application=application, name=f"{mark} key", kind=KeyKind.SECRET)
    rotated = key_rotate(key=new.key, overlap=timedelta(hours=1))
    world.add(rotated.key)
    for key in (new, rotated):
        world.secrets += [key.plaintext, bytes(key.key.digest).hex()]

    owner = Operator.objects.create_user(f"owner-{mark}@example.com".lower(), PASSWORD, name=f"{mark} owner")
    world.add(membership_set(operator=owner, application=application, role=Role.OWNER))
    world.add(
        Invitation.objects.create(
            application=application,
            email=f"{mark}-invited@example.com".lower(),
            name=f"{mark} invited",
            role=Role.ANALYST,
            digest=mark.encode(),
            expires_at=timezone.now() + timedelta(days=7),
        )
    )
    world.add(audit("key.rotate", actor=f"{mark} somebody", application_id=application.pk, row=rotated.key))
    world.add(
        IdempotencyRecord.objects.create(
            application=application,
            key=f"{mark}-idem",
            route="messages",
            request_digest=secrets.token_bytes(32),
            status=202,
            answer={"secret": f"answer-{mark}"},
        )
    )
    world.secrets.append(f"answer-{mark}")

    user = world.add(user_create(application=application, external_id=f"{mark}-user", properties={"name": mark}))
    for number in range(people):
        token = secrets.token_hex(32)
        subscription, _ = subscription_register(
            application=application,
            type="iOSPush",
            token=token,
            setter=Setter.PERSON,
            enabled=True,
            user=user if number == 0 else None,
            tags={"mark": mark},
            device_model=f"{mark}Phone",
        )
        world.secrets += [token, bytes(subscription.token_digest).hex()]
        if number == 0:
            world.add(subscription)
            world.token = token
    world.add(SubscriptionEvent.objects.filter(subscription=world["subscriptions.Subscription"]).first())
    world.add(data_request_create(application=application, user=user, kind="export", by=owner))

    template = template_create(
        application=application,
        created_by="tests",
        name=f"{mark} template",
        title_template="Hi {{ name }}",
        body_template=f"{mark} body",
    )
    template = world.add(
        template_update(template=template, changed_by="tests", changes={"body_template": f"{mark} body 2"})
    )
    world.add(template.versions.first())
    world.add(
        segment_create(
            application=application,
            name=f"{mark} segment",
            criteria={"field": "type", "op": "in", "value": ["iOSPush"]},
        )
    )
    campaign = campaign_create(
        application=application,
        name=f"{mark} campaign",
        title=f"{mark} title",
        body="Body",
        targeting_criteria={"segment": str(world["campaigns.Segment"].pk)},
    )
    campaign = world.add(campaign_launch(campaign=campaign))
    fan_out(campaign.pk)
    record([StatusCount(application.pk, campaign.pk, "push", "pending", "failed", f"{mark}_reason", 2)])
    world.add(CampaignFailure.objects.get(campaign=campaign))
    world.add(
        CampaignApproval.objects.create(
            application=application, campaign=campaign, state="withdrawn", digest=mark, asked_by=f"{mark} somebody"
        )
    )

    message = make_messages(application, ["pending"], campaign_id=campaign.pk)[0]
    subscription = world["subscriptions.Subscription"]
    type(message).objects.filter(pk=message.pk).update(subscription_id=subscription.pk, user_id=user.pk)
    with_answer = {"status": 200, "provider_id": f"{mark}-apns-id"}
    now = timezone.now()
    one = {"ids": [message.pk], "application_id": application.pk}
    lifecycle.apply("send", source="pending", at=now, metadata=with_answer, attempted=True, **one)
    lifecycle.apply("receive", source="successful", at=now + timedelta(seconds=2), **one)
    message = type(message).objects.get(pk=message.pk)
    world.add(message)
    world.add(MessageEvent.objects.filter(message_id=message.pk).first())
    world.add(Dispatch.objects.get(pk=message.dispatch_id))
    world.add(DispatchBatch.objects.get(dispatch_id=message.dispatch_id))
    world.add(MessageRequeue.objects.create(application=application, error_reason=f"{mark}_reason", until=now))
    world.add(
        FollowUp.objects.create(
            application=application,
            dispatch_id=message.dispatch_id,
            user_id=user.pk,
            after_message_id=message.pk,
            because=f"{mark}_reason",
        )
    )
    world.add(
        InboxItem.objects.create(
            id=message.pk,
            application=application,
            owner_id=user.pk,
            dispatch_id=message.dispatch_id,
            expires_at=now + timedelta(hours=1),
        )
    )
    world.add(
        GatewayRequest.objects.create(
            application=application,
            credential_id=application.credentials.first().pk if application.credentials.exists() else user.pk,
            provider="nhn_sms",
            request_id=f"{mark}-request",
            message_ids=[message.pk],
            references=["1"],
        )
    )

    kakao_template = world.add(make_kakao_template(application, mark))
    world.add(kakao_template.channel)

    webhook = endpoint_create(application=application, url="https://hooks.example/", description=f"{mark} hook")
    world.secrets += [webhook.secret, secret_rotate(endpoint=webhook.endpoint, overlap=timedelta(hours=1)).secret]
    world.add(webhook.endpoint)
    world.add(endpoint_test(endpoint=webhook.endpoint, by=f"{mark} somebody"))

    report = world.add(report_create(application=application, kind="daily", roles=["owner"], by=mark))
    world.add(
        ReportRun.objects.create(
            application=application, schedule=report, period_start=now, period_end=now, error=f"{mark} error"
        )
    )
    world.add(
        Export.objects.create(
            application=application, kind="users", filters={"until": now.isoformat()}, requested_by=f"{mark} somebody"
        )
    )
    _add_billing(world, mark)
    _add_choices(world, mark)
    media = world.add(
        media_create(application=application, file_name=f"{mark} logo.png", chunks=[pixels()], by=f"{mark} somebody")
    )
    world.add(media_variant(application=application, media_id=media.pk, channel="thumbnail"))
    world.add(make_checked_import(application, file_name=f"{mark} people.csv", external_id=f"{mark}-imported"))
    return world


def _add_choices(world: World, mark: str) -> None:
    application, user = world.application, world["subscriptions.AppUser"]
    category = world.add(category_create(application=application, slug="news", name_en=f"{mark} news"))
    choices = Choices({"email": MarketingChoice(True, evidence=f"{mark} text")}, {"email": {"news": False}})
    preferences_set(subject=Subject.of_user(user), choices=choices, source="api")
    world.add(MarketingConsent.objects.get(user=user))
    world.add(Preference.objects.get(category=category))
    event = world.add(ConsentEvent.objects.filter(user=user).first())
    now = timezone.now()
    about = {"about_id": event.pk, "said_at": now, "due_at": now, "what": event.event_type}
    world.add(
        ConsentNotice.objects.create(
            application=application, kind="result", user=user, channel="email", note=f"{mark} note", **about
        )
    )
    address = f"{mark}@example.com"
    world.secrets.append(address)
    suppressed = [address_of("Email", address, reason="complaint", note=f"{mark} note")]
    suppressions_add(application_id=application.pk, addresses=suppressed, source="api", by=f"{mark} somebody")
    world.add(Suppression.objects.get(application=application))
    world.add(SuppressionEvent.objects.get(application=application))
    world.secrets.append(suppressed[0].digest.hex())
    waiting = world["subscriptions.Subscription"]
    world.add(OptIn.objects.create(application=application, subscription=waiting, token_digest=b"x", expires_at=now))
    hours = [0] * 23 + [5]
    world.add(ActiveHours.objects.create(application=application, subject_id=user.pk, hours=hours, best_hour=23))
    campaign = world["campaigns.MessageCampaign"]
    world.add(SendTiming.objects.create(campaign_id=campaign.pk, application=application, at_active_hours=True))


def _add_billing(world: World, mark: str) -> None:
    application = world.application
    profile = world.add(billing_of(application))
    secret = alert_settings_set(application=application, webhook_url="https://hooks.example/").new_secret
    world.secrets.append(secret)
    world.add(MessageQuota.objects.get(application=application, channel_type="push"))
    amount = Money(1_000, profile.currency)
    posted = world.add(credit_top_up(application=application, amount=amount, reason=f"{mark} payment", by="tests"))
    entry = world.add(posted.entries.first())
    world.add(entry.account)
    facts = {"limit": 10, "used": 8, "resets_at": timezone.now().isoformat()}
    world.add(
        BillingAlert.objects.create(
            application=application,
            kind="daily_quota",
            channel_type="push",
            threshold=80,
            facts=facts,
            last_error=f"{mark} error",
        )
    )


@pytest.fixture(scope="module")
def aurora(rows_of_module, provider_keys) -> World:
    application = Application.objects.create(name="Shop", time_zone="Asia/Seoul")
    return make_world(application, "Aurora", provider_keys)


@pytest.fixture(scope="module")
def borealis(rows_of_module, provider_keys) -> World:
    return make_world(Application.objects.create(name="Stranger"), "Borealis", provider_keys)


@pytest.fixture
def world(aurora, db) -> World:
    return deepcopy(aurora)


@pytest.fixture
def other(borealis, db) -> World:
    return deepcopy(borealis)


@pytest.fixture
def application(request, db) -> Application:
    """The world's, in a test that has one."""
    if "world" in request.fixturenames:
        return request.getfixturevalue("world").application
    return Application.objects.create(name="Shop", time_zone="Asia/Seoul")


@pytest.fixture
def other_application(request, db) -> Application:
    if "other" in request.fixturenames:
        return request.getfixturevalue("other").application
    return Application.objects.create(name="Stranger")


def signed_in(operator: Operator) -> Client:
    client = Client(raise_request_exception=True)
    client.force_login(operator)
    session = client.session  # it is written each minute: not while queries are counted
    session[BEGAN], session[SEEN] = int(time.time()), int(time.time()) + 3_600
    session.save()
    return client


@pytest.fixture
def root(db) -> Client:
    """A superuser at the console."""
    return signed_in(Operator.objects.create_superuser("root@example.com", PASSWORD, name="Root"))


@pytest.fixture
def member(application):
    """`member("analyst")`: somebody of that role in the first application, at the console."""

    def make(role: str, of: Application = application) -> Client:
        operator = Operator.objects.create_user(f"{role}-{of.pk.hex[-6:]}@example.com", PASSWORD)
        membership_set(operator=operator, application=of, role=role)
        return signed_in(operator)

    return make


@pytest.fixture
def platform_rows(db) -> dict[str, object]:
    """A row of each model that belongs to no application."""
    operator = Operator.objects.create_user("token-holder@example.com", PASSWORD)
    sign_in(email=operator.email, password=PASSWORD)
    token = OutstandingToken.objects.get(user=operator)
    owner = Application.objects.create(name="Of the webhook lane")
    webhook = endpoint_create(application=owner, url="https://hooks.example/").endpoint
    interval = IntervalSchedule.objects.create(every=10, period=IntervalSchedule.SECONDS)
    return {
        "tenants.Operator": operator,
        "tenants.PlatformSwitch": PlatformSwitch.objects.create(name="exports"),
        "axes.AccessAttempt": AccessAttempt.objects.create(
            username="nobody@example.com", ip_address="203.0.113.9", user_agent="x", failures_since_start=3
        ),
        "billing.Plan": Plan.objects.get(code="basic"),
        "messaging.WebhookReader": WebhookReader.objects.create(name="events"),
        "messaging.WebhookLane": webhook.parts.first(),
        "billing.PlanChannel": Plan.objects.get(code="basic").channels.first(),
        "token_blacklist.OutstandingToken": token,
        "token_blacklist.BlacklistedToken": BlacklistedToken.objects.create(token=token),
        "django_celery_beat.IntervalSchedule": interval,
        "django_celery_beat.PeriodicTask": PeriodicTask.objects.create(name="a task", task="x.y", interval=interval),
    }
