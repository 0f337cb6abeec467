"""Tasks may come twice, late, and from two schedulers; the clock may jump (back, and forward when it is put right)."""

import pytest

pytestmark = [pytest.mark.timeout(900), pytest.mark.thorough]


@pytest.mark.parametrize("fault", ["two beats", "tasks twice and late"])
def test_a_task_too_many_does_nothing(survives, fault):
    assert survives(fault).figures.twice == 0


@pytest.mark.parametrize("fault", ["clock back"])
def test_a_clock_that_jumps_loses_nothing(survives, fault):
    survives(fault)
