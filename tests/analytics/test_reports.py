"""Reports by e-mail: sent once, to members who may read them, with numbers and a picture, over a real SMTP server."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from apps.analytics.models import AudienceDay, MessageHour, ReportRun, ReportSchedule, SubscriptionHour
from apps.analytics.reports import delivery, periods, services
from apps.analytics.tasks import send_report, send_report_to, send_reports
from apps.billing.models import BillingProfile, LedgerTransaction, MessageQuota, Plan, TransactionKind
from apps.billing.services.quota import quota_of
from apps.campaigns.services import campaign_create
from apps.messaging.sweeps import TIMED_OUT
from apps.tenants.models import Application, Operator, Role
from apps.tenants.services import application_update, membership_remove, membership_set
from automata_signal.errors import ValidationFailed
from tests.campaigns.test_lifecycle import in_threads
from tests.mailbox import mailbox

SEOUL = timedelta(hours=9)
PNG = b"\x89PNG\r\n\x1a\n"


def at(text: str) -> datetime:
    """A moment by the clocks of Seoul."""
    return datetime.fromisoformat(f"{text}+09:00").astimezone(UTC)


@pytest.fixture
def box(settings):
    with mailbox() as opened:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", opened.port
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
        yield opened


def make_member(application: Application, name: str, role: str) -> Operator:
    operator = Operator.objects.create_user(f"{name}@example.com", "correct horse battery staple", name=name)
    membership_set(operator=operator, application=application, role=role)
    return operator


@pytest.fixture
def ana(application) -> Operator:
    return make_member(application, "ana", Role.ANALYST)


@pytest.fixture
def otto(application) -> Operator:
    return make_member(application, "otto", Role.OWNER)


@pytest.fixture
def schedule(application, ana) -> ReportSchedule:
    """Daily at nine, to analysts."""
    return services.schedule_create(application=application, kind="daily", roles=["analyst"], language="en")


def set_due(schedule: ReportSchedule, moment: datetime) -> None:
    ReportSchedule.objects.filter(pk=schedule.pk).update(next_at=moment)


def make_hour(application: Application, moment: datetime, **fields) -> MessageHour:
    """What happened in an hour."""
    return MessageHour.objects.create(application=application, hour=moment, **{"channel_type": "push"} | fields)


def run_all(now: datetime) -> list[ReportRun]:
    """What Beat and a worker do."""
    delivery.send_due(now)
    for run in ReportRun.objects.filter(due_at__lte=timezone.now()):
        delivery.send(run.pk)
    return list(ReportRun.objects.order_by("period_start"))


# --- When ------------------------------------------------------------------------------------------------------------


def test_a_daily_report_is_due_at_nine_by_the_applications_clock(schedule):
    assert periods.next_at(schedule, at("2020-11-20T08:59")) == at("2020-11-20T09:00")
    assert periods.next_at(schedule, at("2020-11-20T09:00")) == at("2020-11-21T09:00")
    period = periods.latest(schedule, at("2020-11-20T09:00"))
    assert (period.start_at, period.end_at) == (at("2020-11-19T00:00"), at("2020-11-20T00:00"))
    assert periods.latest(schedule, at("2020-11-20T08:59")).first == date(2020, 11, 18)


def test_a_weekly_report_is_due_on_its_weekday_and_about_the_seven_days_before(application, ana):
    weekly = services.schedule_create(application=application, kind="weekly", hour=9, weekday=0, roles=["analyst"])
    monday = at("2020-11-16T09:00")
    assert periods.next_at(weekly, at("2020-11-12T12:00")) == monday
    period = periods.latest(weekly, at("2020-11-18T12:00"))
    assert (period.first, period.end) == (date(2020, 11, 9), date(2020, 11, 16))
    assert period.before.first == date(2020, 11, 2)


def test_days_follow_the_clocks_of_a_zone_that_changes_them(schedule, application):
    application_update(application=application, time_zone="Europe/Berlin")
    schedule = services.schedule_get(application=application, schedule_id=schedule.pk)
    period = periods.latest(schedule, datetime(2020, 10, 26, 12, tzinfo=UTC))
    assert period.end_at - period.start_at == timedelta(hours=25)


def test_each_report_is_opened_once_whoever_sweeps_and_however_often(schedule):
    set_due(schedule, at("2020-11-20T09:00"))
    assert delivery.send_due(at("2020-11-20T09:01")) == 1
    assert delivery.send_due(at("2020-11-20T09:02")) == 0
    set_due(schedule, at("2020-11-20T09:00"))  # as if the first sweep had not moved it on
    assert delivery.send_due(at("2020-11-20T09:03")) == 0
    [run] = ReportRun.objects.all()
    assert (run.period_start, run.period_end) == (date(2020, 11, 19), date(2020, 11, 20))
    schedule.refresh_from_db()
    assert schedule.next_at == at("2020-11-21T09:00")


def test_after_downtime_only_the_last_report_is_made_up_for(schedule):
    set_due(schedule, at("2020-11-10T09:00"))
    delivery.send_due(at("2020-11-20T15:00"))
    assert [run.period_start for run in ReportRun.objects.all()] == [date(2020, 11, 19)]


def test_a_change_of_the_time_zone_neither_repeats_a_day_nor_loses_the_next(schedule, application):
    set_due(schedule, at("2020-11-20T09:00"))
    delivery.send_due(at("2020-11-20T09:00"))
    application_update(application=application, time_zone="UTC")
    delivery.send_due(at("2020-11-21T09:00"))  # midnight of the 21st in UTC: the report is due at nine
    delivery.send_due(datetime(2020, 11, 21, 9, 0, tzinfo=UTC))
    days = [run.period_start.day for run in ReportRun.objects.order_by("period_start")]
    assert days == [19, 20]


def test_what_is_switched_off_stopped_or_not_in_the_plan_is_not_sent(schedule, application):
    services.schedule_update(schedule=schedule, is_active=False)
    set_due(schedule, at("2020-11-20T09:00"))
    assert delivery.send_due(at("2020-11-20T09:01")) == 0
    services.schedule_update(schedule=schedule, is_active=True)
    for change, back in (({"is_active": False}, {"is_active": True}), (None, None)):
        if change:
            Application.objects.filter(pk=application.pk).update(**change)
        else:
            free = Plan.objects.get(code="free")
            BillingProfile.objects.update_or_create(application=application, defaults={"plan": free})
        set_due(schedule, at("2020-11-20T09:00"))
        assert delivery.send_due(at("2020-11-20T09:01")) == 0
        if back:
            Application.objects.filter(pk=application.pk).update(**back)
    assert not ReportRun.objects.exists()


# --- To whom ---------------------------------------------------------------------------------------------------------


def test_only_members_who_may_read_statistics_can_be_named(application, ana):
    make_member(application, "sue", Role.SUPPORT)
    Operator.objects.create_user("stranger@example.com", "correct horse battery staple")
    for email in ("sue@example.com", "stranger@example.com", "nobody@example.com", "ana@example.com\nbcc: x@y.z"):
        with pytest.raises(ValidationFailed) as refused:
            services.schedule_create(application=application, kind="daily", members=[email])
        assert refused.value.details[0].field == "members"
    with pytest.raises(ValidationFailed):
        services.schedule_create(application=application, kind="daily", roles=["support"])
    with pytest.raises(ValidationFailed):
        services.schedule_create(application=application, kind="daily")
    made = services.schedule_create(application=application, kind="daily", members=[" ANA@example.com "])
    assert services.members_of(made) == ["ana@example.com"]


def test_who_leaves_the_application_gets_no_more(box, schedule, application, ana, otto):
    services.schedule_update(schedule=schedule, members=["otto@example.com"])
    membership_remove(membership=ana.memberships.get(application=application))
    set_due(schedule, at("2020-11-20T09:00"))
    run_all(at("2020-11-20T09:01"))
    assert [mail.recipients for mail in box.mails] == [["otto@example.com"]]


# --- What it says ----------------------------------------------------------------------------------------------------


@pytest.fixture
def yesterday(application) -> None:
    """The 19th: 1,000 sent; the 18th: 500."""
    campaign = campaign_create(application=application, name="Spring <b>sale</b>", title="t", targeting_criteria={})
    make_hour(application, at("2020-11-19T10:00"), campaign_id=campaign.pk, sent=900, received=800, converted=200)
    make_hour(application, at("2020-11-19T23:00"), sent=100, received=0)
    make_hour(application, at("2020-11-19T11:00"), failed=40, reason="Unregistered")
    make_hour(application, at("2020-11-19T12:00"), failed=10, reason=TIMED_OUT)
    make_hour(application, at("2020-11-18T10:00"), sent=500, received=300, converted=100)
    make_hour(application, at("2020-11-20T00:00"), sent=7_777)  # the day after
    change = {"application": application, "subscription_type": "iOSPush", "source": "device"}
    SubscriptionHour.objects.create(**change, hour=at("2020-11-19T10:00"), status=1, gained=30, registered=30)
    SubscriptionHour.objects.create(**change, hour=at("2020-11-19T10:00"), status=-2, lost=5)
    AudienceDay.objects.create(application=application, day=date(2020, 11, 19), total=99, active_30d=60)


def test_the_letter_has_the_numbers_as_html_and_text_and_one_picture(box, schedule, yesterday, application):
    set_due(schedule, at("2020-11-20T09:00"))
    [run] = run_all(at("2020-11-20T09:00"))
    assert (run.state, run.attempts, len(run.delivered_to), run.due_at) == ("sent", 1, 1, None)
    [mail] = box.mails
    assert mail.recipients == ["ana@example.com"]
    assert mail.message["Subject"] == "Shop: report of 2020-11-19"
    assert mail.message.get_content_type() == "multipart/related"
    text, html = (mail.parts[f"text/{kind}"].get_content() for kind in ("plain", "html"))
    for line in (
        "Sent: 1,000, against the period before: +100.0 %",
        "Received: 800 (80.0 %), against the period before: +166.7 %",
        "Opened: 200 (25.0 %), against the period before: +100.0 %",
        "Failed: 50 (4.8 %), against the period before: new",
        "Subscriptions gained: 30",
        "Subscriptions lost: 5",
        "Active users: 60",
        "- Unregistered: 40",
        "- Spring <b>sale</b>: sent 900, received 88.9 %, opened 25.0 %",
    ):
        assert line in text
    assert "7,777" not in text + html
    assert "1,000" in html
    assert "Spring &lt;b&gt;sale&lt;/b&gt;" in html
    assert "<b>sale" not in html
    picture = mail.parts["image/png"]
    assert picture["Content-ID"] == "<picture>"
    assert 'src="cid:picture"' in html
    assert picture.get_content().startswith(PNG)
    assert not re.findall(r'(?:src|href)="(?!cid:|http://localhost:8000/)', html)
    schedule.refresh_from_db()
    assert schedule.last_period == date(2020, 11, 19)


def test_the_name_of_an_application_cannot_write_headers_or_html(box, schedule, application):
    Application.objects.filter(pk=application.pk).update(
        name="A\r\nBcc: x@evil.example\u2028\u202e<script>alert(1)</script>"
    )
    set_due(schedule, at("2020-11-20T09:00"))
    run_all(at("2020-11-20T09:00"))
    [mail] = box.mails
    assert mail.recipients == ["ana@example.com"]
    assert mail.message["Bcc"] is None
    assert mail.message["Subject"].startswith("A Bcc: x@evil.example <script>")
    assert "<script" not in mail.parts["text/html"].get_content()


def test_a_report_can_be_in_korean(box, application, ana):
    schedule = services.schedule_create(application=application, kind="weekly", roles=["analyst"], language="ko")
    set_due(schedule, at("2020-11-16T09:00"))
    run_all(at("2020-11-16T09:00"))
    assert 'lang="ko"' in box.mails[0].parts["text/html"].get_content()
    assert box.mails[0].parts["image/png"].get_content().startswith(PNG)


def test_cost_and_quota_are_of_the_application(box, schedule, application, other_application, yesterday):
    for owner, price in ((application, Decimal("1.5")), (other_application, Decimal("900"))):
        LedgerTransaction.objects.create(
            application=owner,
            kind=TransactionKind.USAGE,
            channel_type="push",
            quantity=1_000,
            unit_price=price,
            posted_at=at("2020-11-19T13:00"),
        )
    quota = quota_of(application, "push")
    later = timezone.now() + timedelta(days=1)
    MessageQuota.objects.filter(pk=quota.pk).update(
        daily_quota=2_000, daily_used=1_000, monthly_used=1_500, reset_date=later, monthly_reset_date=later
    )
    set_due(schedule, at("2020-11-20T09:00"))
    run_all(at("2020-11-20T09:00"))
    text = box.mails[0].parts["text/plain"].get_content()
    assert "Cost: 1,500 KRW" in text
    assert "today 1,000 of 2,000 (50.0 %), this month 1,500" in text


# --- That it arrives -------------------------------------------------------------------------------------------------


def test_a_mail_server_that_is_away_is_tried_again_and_the_report_is_sent_once(box, schedule, ana, otto):
    services.schedule_update(schedule=schedule, roles=["analyst", "owner"])
    set_due(schedule, at("2020-11-20T09:00"))
    box.hangs_up = True
    [run] = run_all(at("2020-11-20T09:00"))
    assert (run.state, run.attempts) == ("waiting", 1)
    assert run.error.startswith("SMTP")
    assert timedelta(seconds=50) < run.due_at - timezone.now() <= timedelta(seconds=60)
    assert delivery.send(run.pk) is False  # not due
    box.hangs_up = False
    box.refuses["otto@example.com"] = "451 later"
    ReportRun.objects.update(due_at=timezone.now())
    delivery.send(run.pk)
    run.refresh_from_db()
    assert (run.state, run.attempts, run.delivered_to) == ("waiting", 2, [ana.pk])
    box.refuses.clear()
    ReportRun.objects.update(due_at=timezone.now())
    delivery.send(run.pk)
    run.refresh_from_db()
    assert (run.state, run.attempts, sorted(run.delivered_to)) == ("sent", 3, sorted([ana.pk, otto.pk]))
    assert sorted(mail.recipients[0] for mail in box.mails) == ["ana@example.com", "otto@example.com"]


def test_an_address_that_is_refused_for_good_does_not_hold_up_the_others(box, schedule, ana, otto):
    services.schedule_update(schedule=schedule, roles=["analyst", "owner"])
    box.refuses["ana@example.com"] = "550 no such user"
    set_due(schedule, at("2020-11-20T09:00"))
    [run] = run_all(at("2020-11-20T09:00"))
    assert (run.state, run.delivered_to, run.refused) == ("sent", [otto.pk], [ana.pk])
    assert run.error == "Refused: 550"


def test_a_report_is_given_up_after_the_last_attempt_and_says_why(box, schedule):
    box.hangs_up = True
    set_due(schedule, at("2020-11-20T09:00"))
    delivery.send_due(at("2020-11-20T09:00"))
    run = ReportRun.objects.get()
    for _ in range(delivery.ATTEMPTS_MAX):
        ReportRun.objects.update(due_at=timezone.now())
        delivery.send(run.pk)
    run.refresh_from_db()
    assert (run.state, run.attempts, run.due_at) == ("failed", delivery.ATTEMPTS_MAX, None)
    assert run.error


def test_two_workers_do_not_send_the_same_report(box, schedule):
    set_due(schedule, at("2020-11-20T09:00"))
    delivery.send_due(at("2020-11-20T09:00"))
    run = ReportRun.objects.get()
    assert delivery._claim(run.pk) is not None  # a worker has it, and is still at it
    assert delivery.send(run.pk) is False
    assert box.mails == []


@pytest.mark.django_db(transaction=True)
def test_sweeps_and_workers_at_the_same_time_send_one_letter(box, schedule):
    set_due(schedule, at("2020-11-20T09:00"))
    opened = in_threads(4, lambda _: delivery.send_due(at("2020-11-20T09:00")))
    assert sum(opened) == 1
    run = ReportRun.objects.get()
    done = in_threads(4, lambda _: delivery.send(run.pk))
    assert sorted(done) == [False, False, False, True]
    assert len(box.mails) == 1


def test_a_letter_that_is_sent_again_has_the_same_message_id(schedule, ana):
    from apps.analytics.reports.preview import drafted

    draft, run_id = drafted(schedule), uuid4()
    first, second = (draft.to(ana, run_id=run_id).message()["Message-ID"] for _ in range(2))
    assert first == second


def test_the_tasks_do_it(box, schedule):
    set_due(schedule, timezone.now() - timedelta(minutes=1))
    send_reports()
    send_report(str(ReportRun.objects.get().pk))
    assert len(box.to("ana@example.com")) == 1
    send_report_to(str(schedule.pk), str(Operator.objects.get(email="ana@example.com").pk))
    assert len(box.to("ana@example.com")) == 2


# --- Who does not want it --------------------------------------------------------------------------------------------


def test_the_link_in_the_letter_ends_it_for_one_person_by_post_only(box, schedule, ana, otto):
    services.schedule_update(schedule=schedule, roles=["analyst", "owner"])
    set_due(schedule, at("2020-11-20T09:00"))
    run_all(at("2020-11-20T09:00"))
    [mail] = box.to("ana@example.com")
    link = mail.message["List-Unsubscribe"].strip(" <>")
    assert mail.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    place = urlsplit(link)
    client = Client(enforce_csrf_checks=True)
    assert client.get(f"{place.path}?{place.query}").status_code == 200
    schedule.refresh_from_db()
    assert schedule.opted_out == []
    for _ in range(2):
        assert client.post(f"{place.path}?{place.query}").status_code == 200
    schedule.refresh_from_db()
    assert schedule.opted_out == [ana.pk]
    set_due(schedule, at("2020-11-21T09:00"))
    run_all(at("2020-11-21T09:00"))
    assert len(box.to("ana@example.com")) == 1
    assert len(box.to("otto@example.com")) == 2
    for token in ("", "x", f"{place.query[6:]}x", "%00"):
        assert client.post(f"{place.path}?token={token}").status_code == 404


def test_who_is_named_anew_gets_it_again(schedule, ana, application):
    services.unsubscribe(services.unsubscribe_token(schedule, ana))
    schedule = services.schedule_get(application=application, schedule_id=schedule.pk)
    assert services.recipients_of(schedule) == []
    changed = services.schedule_update(schedule=schedule, members=["ana@example.com"])
    assert services.recipients_of(changed) == [ana]
