"""What SDKs say of themselves: counted by the hour, bounded, and never believed too much."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.analytics import selectors
from apps.analytics.metrics import VALUES_MAX
from apps.analytics.models import DimensionValue, SdkHour
from apps.analytics.sdk_figures import CODES_MAX, COUNT_MAX, INITIALISATIONS_MAX, REPORTS_MAX
from tests.campaigns.test_lifecycle import in_threads

pytestmark = pytest.mark.django_db


def report(**fields) -> dict:
    return {"hour": timezone.now().isoformat(), "platform": "ios", "sdk_version": "1.4.0", **fields}


def post(client, *reports):
    return client.post("sdk/figures", {"reports": list(reports)})


def test_what_phones_report_is_added_up_by_the_hour(application, sdk):
    said = report(
        initialisation_ms=[40, 120, 120_000],
        registrations={"ok": 2, "failed": 1},
        identifications={"ok": 1},
        client_errors=[{"code": "network_timeout", "count": 2}, {"code": "network_timeout"}],
    )
    for _ in range(2):
        answer = post(sdk, said)
        assert answer.status_code == 200
        assert answer.json()["data"] == {"accepted": 1, "refused": []}
    found = selectors.sdk_figures(application=application, period=selectors.days_of(application=application, days=1))
    assert (found.initialisations.messages, found.initialisations.p50) == (6, 125.0)
    assert (found.registrations, found.registrations.rate) == ((4, 2), 0.6667)
    assert found.identifications == (2, 0)
    assert [tuple(row) for row in found.client_errors] == [("network_timeout", 6)]
    assert [row.sdk_version for row in found.by_version] == ["1.4.0"]


def test_hours_that_cannot_be_are_refused_or_taken_as_now(application, sdk):
    now = timezone.now()
    old, ahead = ((now + delta).isoformat() for delta in (timedelta(hours=-73), timedelta(days=400)))
    answer = post(sdk, report(hour=old, initialisation_ms=[1]), report(hour=ahead, initialisation_ms=[1]))
    assert answer.json()["data"] == {"accepted": 1, "refused": [{"index": 0, "reason": "too_old"}]}
    row = SdkHour.objects.get()
    assert row.hour <= now < row.hour + timedelta(hours=1, minutes=1)


def test_made_up_versions_and_codes_cannot_make_the_table_grow(application, sdk, monkeypatch):
    monkeypatch.setitem(VALUES_MAX, "sdk_version", 3)
    monkeypatch.setitem(VALUES_MAX, "sdk_error", 5)
    for n in range(20):
        errors = [{"code": f"e{n}-{code}"} for code in range(CODES_MAX)]
        assert post(sdk, report(sdk_version=f"{n}.0", initialisation_ms=[1], client_errors=errors)).status_code == 200
    assert SdkHour.objects.filter(figure="initialised").count() == 4
    assert SdkHour.objects.filter(figure="client_error").count() <= 4 * 6
    assert DimensionValue.objects.filter(dimension="sdk_version").count() == 3
    assert DimensionValue.objects.filter(dimension="sdk_error").count() == 5
    assert sum(SdkHour.objects.values_list("count", flat=True)) == 20 * (1 + CODES_MAX)


@pytest.mark.django_db(transaction=True)
def test_phones_that_report_at_the_same_time_are_all_counted(application, sdk, monkeypatch):
    monkeypatch.setitem(VALUES_MAX, "sdk_version", 3)

    def work(number: int) -> None:
        for n in range(5):
            said = [report(sdk_version=f"{number}.{n}", initialisation_ms=[1]), report(initialisation_ms=[1])]
            assert post(sdk, *said).status_code == 200

    in_threads(4, work)
    assert sum(SdkHour.objects.values_list("count", flat=True)) == 40
    assert DimensionValue.objects.filter(dimension="sdk_version").count() == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"hour": "yesterday"},
        {"platform": "toaster"},
        {"sdk_version": "=1+1;"},
        {"sdk_version": "1" * 65},
        {"initialisation_ms": [1] * (INITIALISATIONS_MAX + 1)},
        {"initialisation_ms": [-1]},
        {"initialisation_ms": ["1"]},
        {"initialisation_ms": [10**9]},
        {"registrations": {"ok": COUNT_MAX + 1}},
        {"registrations": {"ok": -1}},
        {"registrations": {"ok": 1, "maybe": 1}},
        {"client_errors": [{"code": f"e{n}"} for n in range(CODES_MAX + 1)]},
        {"client_errors": [{"code": "<script>"}]},
        {"client_errors": [{"code": "e", "count": 0}]},
        {"client_errors": {"e": 1}},
        {"user": "me"},
    ],
)
def test_what_is_out_of_bounds_is_refused_and_nothing_is_counted(application, sdk, fields):
    answer = post(sdk, report(initialisation_ms=[1]), report(**fields))
    assert answer.status_code == 400, answer.content
    assert not SdkHour.objects.exists()


def test_a_request_has_so_many_hours_at_most(sdk):
    assert post(sdk).status_code == 400
    assert post(sdk, *[report()] * (REPORTS_MAX + 1)).status_code == 400
    assert post(sdk, *[report(initialisation_ms=[1])] * REPORTS_MAX).status_code == 200


def test_what_is_reported_is_its_own_applications(application, sdk, server, stranger):
    for client, count in ((sdk, 1), (server, 2), (stranger, 3)):
        assert post(client, report(initialisation_ms=[1] * count)).status_code == 200
    about = {"application": application, "period": selectors.days_of(application=application, days=1)}
    assert selectors.sdk_figures(**about).initialisations.messages == 3


def test_hours_are_those_of_the_applications_clock(application, sdk):
    application.time_zone = "Asia/Kolkata"
    application.save()
    post(sdk, report(initialisation_ms=[1]))
    assert SdkHour.objects.get().hour.minute == 30
