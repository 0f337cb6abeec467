"""`docs/exports.md`, held against the kinds."""

from __future__ import annotations

from django.conf import settings

from apps.analytics.exports.filters import PERIOD, PERIOD_MAX_DAYS
from apps.analytics.exports.registry import kinds, resources
from tests.docs.markdown import codes, table, text

PAGE = text("exports.md")


def test_the_table_of_kinds_says_what_they_need():
    rows = table(PAGE, "What can be exported")
    assert {codes(row["`kind`"])[0] for row in rows} == set(kinds())
    for row in rows:
        [resource] = [one for one in resources() if one.kind == codes(row["`kind`"])[0]]
        assert codes(row["Needs, beside `exports:write`"]) == [resource.scope]
        assert row["Period"].startswith("required") == resource.needs_period, resource.kind
        assert row["Period"].removeprefix("required: ").split()[-1] in str(resource.period_label)


def test_the_table_of_filters_is_complete():
    shown = {codes(row["`kind`"])[0]: set(codes(row["Filters"])) for row in table(PAGE, "Filters")}
    for resource in resources():
        names = {item.name for item in resource.filters} - set(PERIOD)
        if resource.kind == "message_events":
            assert shown[resource.kind] - {"status"} <= names
            assert names - {"event_type"} <= shown["messages"]
        else:
            assert names <= shown[resource.kind], resource.kind


def test_the_table_of_columns_is_complete():
    for row in table(PAGE, "Columns"):
        [resource] = [one for one in resources() if one.kind == codes(row["`kind`"])[0]]
        usual = resource.default_columns()
        assert codes(row["Usual columns"]) == usual
        assert codes(row["Further ones"]) == [name for name in resource.columns() if name not in usual]
    assert len(table(PAGE, "Columns")) == len(kinds())


def test_the_numbers_are_those_of_the_settings():
    assert f"{PERIOD_MAX_DAYS} days" in PAGE
    assert f"`EXPORTS_OPEN_MAX` ({settings.EXPORTS_OPEN_MAX})" in PAGE
    assert f"`EXPORT_KEEP_HOURS` ({settings.EXPORT_KEEP_HOURS})" in PAGE
