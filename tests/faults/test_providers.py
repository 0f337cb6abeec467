"""Providers in a bad mood: each message gets there, later, and if twice, then under one collapse id."""

import pytest

pytestmark = [pytest.mark.timeout(900), pytest.mark.thorough]


@pytest.mark.parametrize("fault", ["503", "429", "503 to a fifth, lasting", "token endpoint down"])
def test_a_busy_provider_is_asked_again_and_nothing_is_sent_twice(survives, fault):
    report = survives(fault)
    assert report.figures.twice == 0


@pytest.mark.parametrize("fault", ["GOAWAY, previous", "out of order"])
def test_what_http2_allows_is_no_fault(survives, fault):
    assert survives(fault).figures.twice == 0


@pytest.mark.parametrize("fault", ["time-outs", "resets", "provider refuses", "DNS failure"])
def test_what_may_have_arrived_is_sent_again_under_the_same_collapse_id(survives, fault):
    survives(fault)


def test_a_batch_that_takes_longer_than_its_lease_stays_with_its_worker(survives):
    """12 s of slow answers, with a lease of 8 s."""
    assert survives("slow answers").figures.twice == 0


def test_nothing_is_told_to_a_server_with_a_wrong_certificate(survives):
    survives("wrong certificate")


@pytest.mark.parametrize("fault", ["credential revoked"])
def test_a_refused_credential_stops_and_ends_no_subscription(survives, fault):
    survives(fault)
