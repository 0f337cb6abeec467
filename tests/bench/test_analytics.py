"""The statistics' benchmark in small: everything is counted, and every question asked."""

from __future__ import annotations

import pytest

from apps.analytics.models.rollups import DEVICE_DIMENSIONS


@pytest.mark.timeout(270)
def test_a_small_month_of_messages(bench):
    result, figures = bench("analytics", "--messages", "12000", "--recipients", "2000")
    assert result.returncode == 0, result.stdout
    assert figures["events", "messages"]["value"] == 12_000
    assert figures["events", "events"]["value"] == pytest.approx(20_400, rel=0.1)
    for case in ("fill", "rebuild"):
        assert figures[case, "rate"]["value"] > 0
    questions = {case for case, metric in figures if metric == "slowest"}
    assert questions >= {"totals", "series by day", "campaigns", "time to receipt"}
    assert questions >= {f"by {dimension}" for dimension in DEVICE_DIMENSIONS}
