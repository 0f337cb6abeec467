"""Redis holds nothing that cannot be lost."""

import pytest

pytestmark = pytest.mark.timeout(900)


@pytest.mark.thorough
def test_a_restarted_redis_costs_time_and_nothing_else(survives):
    assert survives("Redis restarted").figures.twice == 0


def test_an_emptied_redis_is_filled_again_from_the_database(survives):
    assert survives("Redis emptied").figures.twice == 0


def test_the_api_accepts_at_once_while_redis_is_gone(survives):
    """The catalogue also asks that no POST takes longer than 5 s meanwhile."""
    assert int(survives("Redis gone").notes["accepted meanwhile"]) >= 10


@pytest.mark.thorough
def test_a_full_redis_refuses_tasks_and_loses_no_message(survives):
    assert survives("Redis full").figures.twice == 0
