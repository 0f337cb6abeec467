"""The layout of the subscriptions' table, on which the speed of audiences rests (docs/performance.md)."""

from __future__ import annotations

import pytest
from django.db import connection

from apps.campaigns.selectors import audience_count

pytestmark = pytest.mark.django_db

TABLE = "subscriptions_subscription"
MOVED_BY_RECEIPTS = {"total_messages_received", "total_messages_converted", "last_active_at"}
MOVED_BY_DEVICES = {"updated_at", "token_registered_at"}
ADDED_LATER = ("soft_failures", "soft_failed_at")
"""To tables that are full, where a column can only come at the end. No audience compares them."""
KOREA = {"field": "country", "op": "eq", "value": "KR"}
NEW_APP = {"field": "app_version", "op": "gte", "value": "2.10"}
ACTIVE = {"field": "last_active_at", "op": "within", "value": "7d"}


def names(sql: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(sql, [TABLE])
        return [row[0] for row in cursor.fetchall()]


def columns() -> list[str]:
    return names(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum"
    )


def columns_of_indexes() -> set[str]:
    return set(
        names(
            "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
            " AND a.attnum = ANY(i.indkey::int2[]) WHERE i.indrelid = %s::regclass"
        )
    )


# Of an empty table any index is as good as another to the planner, so only this one is left to it.
NO_OTHER_INDEX = """
    DO $$ DECLARE other text; BEGIN
        FOR other IN
            SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE i.indrelid = 'subscriptions_subscription'::regclass AND NOT i.indisprimary
              AND c.relname <> 'subscription_reachable'
        LOOP
            EXECUTE format('ALTER TABLE subscriptions_subscription DROP CONSTRAINT IF EXISTS %I', other);
            EXECUTE format('DROP INDEX IF EXISTS %I', other);
        END LOOP;
    END $$
"""


def plan(application, criteria) -> str:
    """How this audience would be counted by the index, if at all."""
    taken = []

    def explain(execute, sql, params, many, context):
        with connection.cursor() as cursor:
            cursor.cursor.execute(f"SET LOCAL enable_seqscan = off; {NO_OTHER_INDEX}")
            cursor.cursor.execute(f"EXPLAIN {sql}", params)
            taken.extend(row[0] for row in cursor.cursor.fetchall())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        assert audience_count(application=application, criteria=criteria, channel_type="push") == 0
    return "\n".join(taken)


def test_no_index_names_what_receipts_and_sessions_move():
    """Else PostgreSQL would write to every index for each receipt (no HOT update)."""
    assert not columns_of_indexes() & (MOVED_BY_RECEIPTS | MOVED_BY_DEVICES)


def test_it_is_vacuumed_before_a_tenth_of_it_has_changed():
    """Else a count from the index has to look at the rows all the same."""
    options = dict(
        option.split("=") for option in names("SELECT unnest(reloptions) FROM pg_class WHERE oid = %s::regclass")
    )
    assert float(options["autovacuum_vacuum_scale_factor"]) < 0.1


def test_what_an_audience_compares_comes_before_texts_and_the_token_is_last():
    """A row is walked from its beginning; past a text or a null, each value has to be looked at."""
    order = columns()
    fixed = order[: order.index("type")]
    assert {"application_id", "subscription_status", "is_archived", "test_type", "created_at"} < set(fixed)
    assert fixed.index("last_active_at") == len(fixed) - 5, "the first that may be null"
    assert order.index("country_code") < order.index("tags") < order.index("app_version")
    first = [column for column in order if column not in ADDED_LATER]
    assert first[-2:] == ["token_digest", "token"]
    assert order == [*first, *ADDED_LATER]


@pytest.mark.parametrize("criteria", [{}, KOREA, NEW_APP, {"all": [KOREA, {"not": NEW_APP}]}])
def test_countries_and_versions_are_counted_from_the_index_alone(application, criteria):
    assert "Index Only Scan using subscription_reachable" in plan(application, criteria)


def test_what_the_index_does_not_carry_is_read_from_the_rows(application):
    assert "Index Scan using subscription_reachable" in plan(application, {"all": [KOREA, ACTIVE]})
