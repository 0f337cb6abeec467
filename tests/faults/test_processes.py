"""Whatever process is killed: nothing that was accepted is lost, and nobody has to do anything."""

import pytest

pytestmark = pytest.mark.timeout(900)


def test_a_killed_worker_loses_nobody(survives):
    assert survives("worker killed").restarted == ["push0"]


@pytest.mark.thorough
def test_a_killed_pool_process_loses_nobody_though_its_parent_lives(survives):
    assert survives("pool process killed").restarted == []


def test_all_workers_may_be_killed_at_once(survives):
    survives("all workers killed")


@pytest.mark.thorough
def test_a_killed_beat_delays_and_loses_nothing(survives):
    survives("beat killed")


def test_a_web_process_killed_amid_posts_keeps_each_2xx_and_does_no_request_twice(survives):
    survives("web killed")


def test_a_deploy_in_the_middle_of_a_campaign_sends_nothing_twice(survives):
    report = survives("rolling restart")
    assert report.figures.twice == 0
