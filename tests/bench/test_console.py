"""The console's benchmark in small: each page is opened, and no page asks the database more than twenty things."""

from __future__ import annotations

import pytest
from django.contrib import admin


@pytest.mark.timeout(270)
def test_every_page_beside_a_small_month(bench):
    result, figures = bench("console", "--messages", "6000", "--recipients", "1000")
    assert result.returncode == 0, result.stdout
    cases = {case for case, metric in figures if metric == "time"}
    assert {f"list {model._meta.label}" for model in admin.site._registry} <= cases
    assert {"home", "page statistics", "row messaging.Message", "messages by user"} <= cases
    queries = {case: row["value"] for (case, metric), row in figures.items() if metric == "queries"}
    assert {case: n for case, n in queries.items() if not 1 <= n <= 20} == {}
