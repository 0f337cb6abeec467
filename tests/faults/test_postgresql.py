"""While PostgreSQL is away the API says 503, and results that are known are held, not lost."""

import pytest

pytestmark = pytest.mark.timeout(900)

AWAY = {"503", "BrokenPipeError", "ConnectionResetError"}
"""A client whose key cannot be looked up may have its answer, and its connection closed, before its body has left."""


def test_results_are_held_over_an_immediate_restart(survives):
    report = survives("PostgreSQL restarted")
    assert report.figures.twice == 0
    assert set(report.refusals) <= AWAY


def test_cut_connections_are_opened_again(survives):
    assert survives("connections cut").figures.twice == 0


@pytest.mark.thorough
def test_a_server_without_free_connections_is_waited_for(survives):
    assert survives("pool exhausted").figures.twice == 0


@pytest.mark.thorough
@pytest.mark.parametrize("fault", ["deadlocks injected", "disk full"])
def test_refused_transactions_are_tried_again(survives, fault):
    assert survives(fault).figures.twice == 0
