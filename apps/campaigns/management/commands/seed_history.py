"""`manage.py seed_history`: the thirty days before, so that the demo's console is as full as a shop's. Once only.

What `_history_plan` says is written as it would lie in the tables: campaigns with their messages, events, counters and
failures; a shop's order messages of each day; who left; the team, segments, templates with their versions; what was
paid in and used up. The statistics are filled from the events, as always, and `check_ledger` finds that the ledger
equals these messages too. Everything follows from the place of a day and a row, so two runs on equal data are the same.
"""

from __future__ import annotations

import argparse
import random
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from apps.analytics.reports.services import schedule_create
from apps.billing.models import AccountKind, MessageQuota, TransactionKind
from apps.billing.services.ledger import AccountName, Posting, ledger_post, lock_quotas
from apps.billing.services.quota import billing_of
from apps.campaigns.management.commands import _history_plan as plan
from apps.campaigns.management.commands import _history_rows as rows
from apps.campaigns.management.commands.seed_demo import APPLICATION, BY, read_state
from apps.campaigns.models import MessageCampaign, Segment
from apps.campaigns.services import campaign_create, campaign_schedule, segment_create
from apps.messaging.models import MessageTemplate
from apps.messaging.partitions import make_partitions
from apps.messaging.services import template_create, template_update
from apps.subscriptions.models import AppUser
from apps.subscriptions.preferences.categories import category_create
from apps.subscriptions.preferences.models import ConsentEvent, MarketingConsent, MessageCategory
from apps.subscriptions.services import users_set_test
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application, Operator
from apps.tenants.services import membership_set, operator_create

DAYS = 30
ZONE = ZoneInfo("Asia/Seoul")
ORDERS_A_DAY = (18, 34)
PAID_IN = Decimal(3_000_000)
PRICES = {ChannelType.PUSH: "0.2", ChannelType.EMAIL: "0.7", ChannelType.SMS: "12", ChannelType.KAKAO_TALK: "8"}
MONTHLY = {
    ChannelType.PUSH: 5_000_000,
    ChannelType.EMAIL: 200_000,
    ChannelType.SMS: 20_000,
    ChannelType.KAKAO_TALK: 50_000,
}
CONSENTS_MAX = 4_000


class Command(BaseCommand):
    help = "Fill the demo's application with the thirty days before now."
    requires_system_checks = ()

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--state-dir", type=Path, default=settings.BASE_DIR / ".local" / "demo", help="where seed_demo's files lie"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.IS_PRODUCTION:
            raise CommandError("A demo has no place in production (AUTOMATA_ENV=production).")
        state = read_state(options["state_dir"] / "demo.json")
        application = Application.objects.filter(pk=state.get("application_id") or UUID(int=0)).first()
        if application is None:
            raise CommandError("seed_demo comes first.")
        if application.campaigns.filter(created_by=plan.MARKETER).exists():
            self.stdout.write(f"{APPLICATION}: its thirty days are there")
            return
        made = history_make(application, password=state["password"], now=timezone.now())
        self.stdout.write(f"{APPLICATION}: {made:,} messages of the last {DAYS} days")


@transaction.atomic
def history_make(application: Application, *, password: str, now: datetime) -> int:
    """All of it, or nothing; the number of messages."""
    make_partitions(today=(now - timedelta(days=DAYS + 2)).date(), months_ahead=2)
    team_make(application, password)
    words_make(application)
    consents_make(application, now)
    testers = AppUser.objects.filter(application=application, external_id__in=plan.TESTERS)
    users_set_test(application=application, user_ids=list(testers.values_list("pk", flat=True)), is_test=True)
    used = rows.Used()
    for past in plan.CAMPAIGNS:
        at = _at(now, past.days_ago, past.hour) if past.days_ago else now.astimezone(ZONE) - timedelta(hours=past.hour)
        rows.campaign_make(application, past, at, used)
    chance = random.Random(application.name)
    for days_ago in range(DAYS, -1, -1):
        for _ in range(chance.randint(*ORDERS_A_DAY)):
            at = _at(now, days_ago, chance.randrange(8, 23)) + timedelta(seconds=chance.randrange(3_600))
            if at < now:
                rows.order_message_make(application, at, chance, used)
    rows.leavers_make(application, now, chance)
    rows.audience_days_make(application, now, DAYS, ZONE)
    money_post(application, used, now)
    plans_make(application, now)
    return used.messages


def _at(now: datetime, days_ago: int, hour: int) -> datetime:
    day = now.astimezone(ZONE) - timedelta(days=days_ago)
    return day.replace(hour=hour, minute=7, second=12, microsecond=0)


def team_make(application: Application, password: str) -> None:
    """Who works at the shop. They sign in with the password of the demo's operator."""
    for mailbox, name, role in plan.TEAM:
        email = f"{mailbox}@{plan.DOMAIN}"
        operator = Operator.objects.filter(email=email).first()
        if operator is None:
            operator = operator_create(email=email, password=password, name=name, by=BY)
        membership_set(operator=operator, application=application, role=role, by=BY)


def words_make(application: Application) -> None:
    """Categories, segments, templates with their versions, a daily report."""
    for slug, name_en, name_ko in plan.CATEGORIES:
        if not MessageCategory.objects.filter(application=application, slug=slug).exists():
            category_create(application=application, slug=slug, name_en=name_en, name_ko=name_ko)
    for name, description, criteria in plan.SEGMENTS:
        if not Segment.objects.filter(application=application, name=name).exists():
            segment_create(
                application=application, name=name, description=description, criteria=criteria, by=plan.MARKETER
            )
    for name, versions in plan.TEMPLATES:
        if MessageTemplate.objects.filter(application=application, name=name).exists():
            continue
        template = None
        for title, body in versions:
            words = {"title_template": title, "body_template": body}
            if template is None:
                template = template_create(application=application, created_by=plan.MARKETER, name=name, **words)
            else:
                template = template_update(template=template, changed_by=plan.MARKETER, changes=words)
    schedule_create(application=application, kind="daily", roles=["owner", "manager"], language="ko", by=BY)


def consents_make(application: Application, now: datetime) -> None:
    """Two of three users agreed to advertising by push, half of these by e-mail too, and some also at night."""
    users = AppUser.objects.filter(application=application).order_by("pk").values_list("pk", flat=True)[:CONSENTS_MAX]
    consents, events = [], []
    for place, user_id in enumerate(users):
        if place % 3 == 2:
            continue
        at = now - timedelta(days=10 + place % 80)
        is_night = place % 5 == 0
        for channel in ("push", "email") if place % 2 else ("push",):
            said: dict[str, Any] = {"application": application, "user_id": user_id, "channel": channel}
            said |= {"source": "device", "evidence": "marketing-terms-2026-03"}
            consents.append(
                MarketingConsent(
                    **said,
                    subject_id=user_id,
                    is_given=True,
                    given_at=at,
                    is_night_given=is_night,
                    night_given_at=at if is_night else None,
                    confirm_due_at=at + timedelta(days=730),
                    updated_at=at,
                )
            )
            for kind in ("given", "night_given")[: 1 + is_night]:
                key = rows.range_at(at).base
                events.append(ConsentEvent(id=key, **said, event_type=kind, effective_at=at, occurred_at=at))
    MarketingConsent.objects.bulk_create(consents, ignore_conflicts=True, batch_size=2_000)
    ConsentEvent.objects.bulk_create(events, batch_size=2_000)


def money_post(application: Application, used: rows.Used, now: datetime) -> None:
    """What was paid in, and what each day used up, as the ledger and the quotas would have it."""
    profile = billing_of(application)
    lock_quotas(application.pk)
    began = _at(now, DAYS + 1, 9)
    ledger_post(
        application_id=application.pk,
        posting=Posting(TransactionKind.TOP_UP, reason="Bank transfer 2211-7", by=BY, at=began),
        amounts={AccountName(AccountKind.CREDIT): PAID_IN, AccountName(AccountKind.FUNDING): -PAID_IN},
        currency=profile.currency,
    )
    prices = {channel: Decimal(price) for channel, price in PRICES.items()}
    for (day, channel), sent in sorted(used.sent.items()):
        price = prices.get(ChannelType(channel), Decimal(0))
        ledger_post(
            application_id=application.pk,
            posting=Posting(TransactionKind.USAGE, channel, sent, price, at=min(day + timedelta(hours=23), now)),
            amounts={
                AccountName(AccountKind.CREDIT): -sent * price,
                AccountName(AccountKind.USAGE, channel): sent * price,
            },
            currency=profile.currency,
        )
    for quota in MessageQuota.objects.filter(application=application):
        channel = ChannelType(quota.channel_type)
        of_month = used.of_channel(channel, since=quota.month_began_at)
        quota.sent_total += used.of_channel(channel)
        quota.posted_total += used.of_channel(channel)
        quota.monthly_used += of_month
        quota.daily_used += used.of_channel(channel, since=quota.day_began_at)
        quota.monthly_quota, quota.is_own = MONTHLY.get(channel), channel in MONTHLY
        if channel in prices:
            quota.unit_price = type(quota.unit_price)(prices[channel], profile.currency)
        quota.save()


def plans_make(application: Application, now: datetime) -> None:
    """What lies before them: a campaign for tomorrow, and one that somebody still writes."""
    segment = Segment.objects.get(application=application, name="Korea, active this month")
    soon: MessageCampaign = campaign_create(
        application=application,
        created_by=plan.MARKETER,
        by=plan.MARKETER,
        name="연말 감사 쿠폰",
        channel_type="push",
        title="연말 감사 쿠폰이 도착했어요",
        body="한 해 동안 감사했습니다. 15,000원 쿠폰을 드려요.",
        targeting_criteria={"segment": str(segment.pk)},
    )
    at = _at(now, -1, 11)
    campaign_schedule(campaign=soon, at=at, time_zone="Asia/Seoul", by=plan.MARKETER)
    campaign_create(
        application=application,
        created_by=plan.MARKETER,
        by=plan.MARKETER,
        name="새해 첫 세일 (작성 중)",
        channel_type="push",
        title="새해 첫 세일",
        body="",
        targeting_criteria={},
    )
