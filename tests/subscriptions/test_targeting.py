"""Targeting: what criteria select, against plain Python on the same rows; where bad ones are refused."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.subscriptions.models import AppUser, Subscription
from apps.subscriptions.targeting import (
    REACHABLE,
    TargetingError,
    compile_criteria,
    describe,
    validate_criteria,
)
from apps.tenants.models import Application

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
digests = count()


def when(field: str, op: str, *value: Any) -> dict[str, Any]:
    return {"field": field, "op": op, **({"value": value[0]} if value else {})}


def selected(criteria: object, **options: Any) -> set[uuid.UUID]:
    """Ids of the subscriptions that the compiled SQL selects."""
    predicate = compile_criteria(criteria, now=NOW, **options)
    with connection.cursor() as cursor:
        sql = f"SELECT s.id FROM {predicate.from_clause} WHERE {REACHABLE} AND {predicate.sql}"
        cursor.execute(sql, predicate.params)
        return {row[0] for row in cursor.fetchall()}


@pytest.fixture
def app(db) -> Application:
    return Application.objects.create(name="Targeting")


def subscription(app: Application, user: AppUser | None = None, **fields: Any) -> uuid.UUID:
    values = {"type": "iOSPush", "subscription_status": 1, **fields}
    digest = next(digests).to_bytes(32, "big")
    return Subscription.objects.create(application=app, user=user, token="t", token_digest=digest, **values).id


def finds(criteria: object, row: uuid.UUID) -> bool:
    return row in selected(criteria)


def test_the_test_group_is_asked_of_the_user(app) -> None:
    tester = AppUser.objects.create(application=app, external_id="tester", is_test=True)
    gone = AppUser.objects.create(application=app, external_id="gone", is_test=True, is_archived=True)
    theirs = subscription(app, tester)
    others = {subscription(app, AppUser.objects.create(application=app, external_id="u")), subscription(app)}
    others.add(subscription(app, gone))
    assert selected(when("test_group", "eq", True)) == selected(when("test_group", "ne", False)) == {theirs}
    assert selected(when("test_group", "eq", False)) == selected(when("test_group", "ne", True)) == others
    assert describe(when("test_group", "eq", True)) == "test group is yes"
    with pytest.raises(TargetingError):
        validate_criteria(when("test_group", "eq", "yes"))


def test_consent_is_asked_of_the_user_or_of_who_has_none(app) -> None:
    from apps.subscriptions.preferences.consents import Choices, MarketingChoice, preferences_set
    from apps.subscriptions.preferences.subjects import Subject

    user = AppUser.objects.create(application=app, external_id="agreed")
    agreed, silent = subscription(app, user), subscription(app)
    choices = Choices({"push": MarketingChoice(True)})
    preferences_set(subject=Subject.of_user(user), choices=choices, source="api")
    assert selected(when("consent.push", "eq", True)) == {agreed}
    assert selected(when("consent.push", "eq", False)) == selected(when("consent.push", "ne", True)) == {silent}
    assert selected(when("consent.sms", "eq", True)) == set()
    assert describe(when("consent.push", "eq", True)) == "consent to advertising by push is given"
    for wrong in (
        when("consent.push", "eq", "yes"),
        when("consent.fax", "eq", True),
        when("consent.push", "in", [True]),
    ):
        with pytest.raises(TargetingError):
            validate_criteria(wrong)


def test_empty_criteria_select_everybody_reachable(app) -> None:
    rows = {subscription(app), subscription(app, type="Email")}
    subscription(app, subscription_status=-2)
    subscription(app, is_archived=True)
    assert selected({}) == rows
    assert not compile_criteria({}).needs_user


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (when("type", "eq", "iOSPush"), True),
        (when("type", "in", ["Email", "SMS"]), False),
        (when("country", "eq", "kr"), True),
        (when("country", "not_in", ["KR", "JP"]), False),
        (when("language", "prefix", "ko"), True),
        (when("language", "eq", "ko"), False),
        (when("device_model", "contains", "hone_1"), False),
        (when("device_model", "contains", "hone%5"), False),
        (when("device_model", "contains", " 100%5"), True),
        (when("device_model", "prefix", "iPhone\\"), True),
        (when("device_model", "contains", "%"), True),
        (when("device_model", "prefix", "%"), False),
        (when("os", "gte", "17"), True),
        (when("os", "lt", "17.4.1"), True),
        (when("os", "eq", "17.4"), True),
        (when("os", "prefix", "17."), True),
        (when("app_version", "gte", "2.9"), True),
        (when("app_version", "lt", "2.9"), False),
        (when("app_version", "eq", "2.10"), True),
        (when("app_version", "in", ["1", "v2.10.0.0-rc1"]), True),
        (when("app_version", "between", ["2.10", "2.10"]), True),
        (when("app_version", "gt", "2.10"), False),
        (when("sdk_version", "exists"), False),
        (when("sdk_version", "lt", "9"), False),
        (when("sdk_version", "ne", "9"), True),
        (when("test_type", "eq", 0), True),
        (when("test_type", "in", [1, 2]), False),
        (when("created_at", "older_than", "10d"), True),
        (when("created_at", "within", "10d"), False),
        (when("created_at", "within", "40d"), True),
        (when("created_at", "older_than", "40d"), False),
        (when("created_at", "before", (NOW - 40 * DAY).isoformat()), False),
        (when("created_at", "after", (NOW - 40 * DAY).isoformat()), False),
        (when("created_at", "before", "2026-05-01T00:00:00+09:00"), True),
        (when("created_at", "between", ["2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z"]), True),
        (when("last_active_at", "exists"), False),
        (when("last_active_at", "older_than", "1h"), False),
        (when("external_id", "in", ["nobody", "kim"]), True),
        (when("external_id", "exists"), True),
        (when("user.created_at", "after", "2020-01-01T00:00:00Z"), True),
        (when("user.city", "eq", "Seoul"), True),
        (when("user.address.zip", "eq", "04524"), True),
        (when("user.address.zip", "gt", 1), False),
        (when("user.address.nope.deeper", "not_exists"), True),
        (when("user.address", "exists"), True),
        (when("tags.plan", "eq", "gold"), True),
        (when("tags.plan", "ne", "gold"), False),
        (when("tags.nope", "ne", "gold"), True),
        (when("tags.nope", "eq", "gold"), False),
        (when("tags.level", "eq", 7.0), True),
        (when("tags.level", "eq", "7"), False),
        (when("tags.level", "between", [6.5, 7]), True),
        (when("tags.level", "gt", 10), False),
        (when("tags.plan", "gt", 10), False),
        (when("tags.interests", "contains", "golf"), True),
        (when("tags.interests", "contains", "gol"), False),
        (when("tags.interests", "eq", "golf"), False),
        (when("tags.plan", "contains", "ol"), True),
        (when("tags.dotted.name", "eq", True), True),
        (when("tags.dotted.name", "eq", 1), False),
        (when("tags.null", "exists"), False),
        (when("tags.level", "in", list(range(100))), True),
        (when("tags.'; DROP TABLE x; --", "eq", "' OR 1=1 --"), False),
        (when('tags.{"a","b"}\\', "exists"), False),
    ],
    ids=lambda value: str(value)[:90],
)
def test_a_condition_selects_what_it_says(app, condition, expected) -> None:
    user = AppUser.objects.create(
        application=app, external_id="kim", properties={"city": "Seoul", "address": {"zip": "04524"}}
    )
    row = subscription(
        app,
        user,
        country_code="KR",
        device_language="ko-KR",
        device_model="iPhone\\ 100%5",
        device_os="17.4",
        app_version="2.10.0",
        created_at=NOW - 40 * DAY,
        tags={"plan": "gold", "level": 7, "interests": ["golf"], "dotted.name": True, "null": None},
    )
    assert finds(condition, row) is expected
    assert finds({"not": condition}, row) is not expected


def test_groups_nest(app) -> None:
    korea = subscription(app, country_code="KR", tags={"plan": "vip"})
    japan = subscription(app, country_code="JP")
    other = subscription(app, country_code="DE")
    vip = when("tags.plan", "eq", "vip")
    assert selected({"any": [{"all": [when("country", "eq", "KR"), vip]}, when("country", "eq", "JP")]}) == {
        korea,
        japan,
    }
    assert selected({"not": {"any": [vip, when("country", "eq", "JP")]}}) == {other}


def test_an_archived_user_is_no_user(app) -> None:
    user = AppUser.objects.create(application=app, external_id="gone", is_archived=True)
    row = subscription(app, user)
    assert not finds(when("external_id", "eq", "gone"), row)
    assert finds(when("external_id", "not_exists"), row)


def test_segments_are_resolved_and_named_in_errors(app) -> None:
    row = subscription(app, country_code="KR")
    one, two, broken = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    known = {
        one: {"all": [{"segment": str(two)}]},
        two: when("country", "eq", "KR"),
        broken: {"any": [when("nope", "eq", 1)]},
    }
    assert selected({"segment": str(one)}, resolve_segment=known.get) == {row}
    assert selected({"not": {"segment": str(one)}}, resolve_segment=known.get) == set()
    with pytest.raises(TargetingError) as caught:
        compile_criteria({"all": [{"segment": str(broken)}]}, resolve_segment=known.get)
    assert caught.value.path == f"all[0].segment({broken}).any[0].field"
    with pytest.raises(TargetingError, match="no such segment"):
        compile_criteria({"segment": str(uuid.uuid4())}, resolve_segment=known.get)
    known[two] = {"not": {"segment": str(one)}}
    with pytest.raises(TargetingError, match="contains itself"):
        compile_criteria({"segment": str(one)}, resolve_segment=known.get)
    validate_criteria({"segment": str(uuid.uuid4())})


OK = when("country", "eq", "KR")
DEEP: Any = OK
for _ in range(8):
    DEEP = {"not": DEEP}


@pytest.mark.parametrize(
    ("criteria", "path"),
    [
        (None, ""),
        ([], ""),
        ("all", ""),
        (5, ""),
        ({"x": 1}, ""),
        ({"all": [OK], "any": [OK]}, ""),
        ({"all": [], "field": "x"}, ""),
        ({"all": []}, "all"),
        ({"any": {}}, "any"),
        ({"all": "x"}, "all"),
        ({"all": [OK, 5]}, "all[1]"),
        ({"all": [OK, {}]}, "all[1]"),
        ({"not": []}, "not"),
        ({"not": {}}, "not"),
        ({"all": [OK], "extra": 1}, "extra"),
        ({"all": [{**OK, "vaule": 1}]}, "all[0].vaule"),
        (DEEP, "not.not.not.not.not.not.not.not"),
        ({"any": [OK] * 201}, "any"),
        ({"all": [{"any": [OK] * 150}] * 2}, "all[1].any[50]"),
        (when("nope", "eq", 1), "field"),
        (when("s.id; --", "eq", 1), "field"),
        ({"field": 5, "op": "eq"}, "field"),
        ({"field": ["a"]}, "field"),
        (when("tags.", "eq", 1), "field"),
        (when("user.", "eq", 1), "field"),
        (when("user.a..b", "eq", 1), "field"),
        (when("user.a.0", "eq", 1), "field"),
        (when("user." + ".".join("abcdefghi"), "eq", 1), "field"),
        (when("tags.\x00", "eq", 1), "field"),
        (when("tags." + "x" * 600, "eq", 1), "field"),
        (when("tags.\ud800", "eq", 1), "field"),
        ({"field": "country"}, "op"),
        (when("country", "like", "K"), "op"),
        (when("country", ["eq"], "K"), "op"),
        (when("type", "contains", "Push"), "op"),
        (when("created_at", "eq", "30d"), "op"),
        (when("external_id", "prefix", "a"), "op"),
        (when("country", "eq"), "value"),
        (when("country", "exists", True), "value"),
        (when("country", "eq", 82), "value"),
        (when("country", "eq", "KOR"), "value"),
        (when("country", "in", "KR"), "value"),
        (when("country", "in", []), "value"),
        (when("country", "in", ["KR", None]), "value[1]"),
        (when("type", "eq", "Fax"), "value"),
        (when("test_type", "eq", True), "value"),
        (when("test_type", "eq", 3), "value"),
        (when("test_type", "eq", "0"), "value"),
        (when("language", "eq", ""), "value"),
        (when("language", "eq", "\x00"), "value"),
        (when("language", "eq", "\udfff"), "value"),
        (when("language", "eq", "x" * 501), "value"),
        (when("language", "in", ["a"] * 1001), "value"),
        (when("external_id", "in", ["a"] * 2001), "value"),
        (when("app_version", "gte", "latest"), "value"),
        (when("app_version", "gte", 2.1), "value"),
        (when("app_version", "eq", "1." * 50 + "1"), "value"),
        (when("app_version", "eq", "9" * 19), "value"),
        (when("app_version", "eq", "٣.١"), "value"),
        (when("os", "lt", "x"), "value"),
        (when("app_version", "between", ["1"]), "value"),
        (when("app_version", "between", ["2", "x"]), "value[1]"),
        (when("app_version", "between", ["2", "1"]), "value"),
        (when("created_at", "within", "30"), "value"),
        (when("created_at", "within", 30), "value"),
        (when("created_at", "within", "0d"), "value"),
        (when("created_at", "within", "999999d"), "value"),
        (when("created_at", "before", "2026-01-01T00:00:00"), "value"),
        (when("created_at", "before", "yesterday"), "value"),
        (when("created_at", "before", "0001-01-01T00:00:00+14:00"), "value"),
        (when("created_at", "before", 1700000000), "value"),
        (when("created_at", "between", ["2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z"]), "value"),
        (when("tags.a", "gt", "5"), "value"),
        (when("tags.a", "gt", True), "value"),
        (when("tags.a", "gt", float("nan")), "value"),
        (when("tags.a", "eq", float("inf")), "value"),
        (when("tags.a", "eq", 2**63), "value"),
        (when("tags.a", "eq", None), "value"),
        (when("tags.a", "eq", {"b": 1}), "value"),
        (when("tags.a", "contains", ""), "value"),
        (when("tags.a", "prefix", 1), "value"),
        (when("user.a", "in", [[1]]), "value[0]"),
        ({"segment": 5}, "segment"),
        ({"segment": "x"}, "segment"),
        ({"any": [OK, {"segment": None}]}, "any[1].segment"),
        ({"all": [when("tags.a", "in", ["x"] * 1000)] * 11}, "all[10].value"),
        ({1: 2, "all": [OK]}, "1"),
    ],
    ids=lambda value: str(value)[:60].replace("\x00", "NUL").encode("ascii", "replace").decode(),
)
def test_bad_criteria_name_their_path(criteria, path) -> None:
    for check in (validate_criteria, compile_criteria, describe):
        with pytest.raises(TargetingError) as caught:
            check(criteria)
        assert caught.value.path == path
        assert caught.value.message


@pytest.mark.parametrize(
    ("criteria", "words"),
    [
        ({}, "everybody reachable"),
        (
            {"all": [when("country", "eq", "kr"), when("app_version", "gte", "2.10")]},
            "country is KR and app version >= 2.10",
        ),
        (
            {
                "all": [
                    {"any": [when("tags.plan", "in", ["gold", "vip"]), when("tags.level", "gt", 5)]},
                    {"not": when("os", "lt", "17")},
                ]
            },
            "(tag plan is one of gold, vip or tag level > 5) and not (OS < 17)",
        ),
        (when("last_active_at", "within", "30d"), "last active within the last 30 days"),
        (when("user.last_active_at", "older_than", "48h"), "user last active more than 2 days ago"),
        (when("created_at", "before", "2026-01-31T09:00:00+09:00"), "created before 2026-01-31 09:00:00+09:00"),
        (when("external_id", "in", list("abcdefg")), "external id is one of a, b, c, d, e and 2 more"),
        (when("user.city", "not_exists"), "user city is not set"),
        (when("app_version", "between", ["2.0", "2.20"]), "app version is between 2.0 and 2.20"),
        (when("tags.x", "ne", True), "tag x is not true"),
    ],
)
def test_criteria_read_as_english(criteria, words) -> None:
    assert describe(criteria) == words


def test_a_segment_is_described_by_its_name() -> None:
    segment = uuid.uuid4()
    assert (
        describe({"segment": str(segment)}, segment_name=lambda given: f"“{given == segment}”") == "in segment “True”"
    )


# The same criteria in plain Python, written from the documentation and not from the compiler


def version(text: str | None) -> tuple[int, ...] | None:
    if not text or not text[0].isdigit():
        return None
    parts = [int(part) for part in text.split("-")[0].split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def look_up(row: dict[str, Any], field: str) -> Any:
    source, _, rest = field.partition(".")
    if source == "tags":
        return row["tags"].get(rest)
    if field in ("user.created_at", "external_id"):
        return row["user"] and row["user"][field.removeprefix("user.")]
    if source == "user":
        value = row["user"] and row["user"]["properties"]
        for step in rest.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        return value
    return row[field] if row[field] != "" else None


def same(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return Decimal(repr(left)) == Decimal(repr(right))
    return type(left) is type(right) and left == right


def compare(op: str, left: Any, right: Any) -> bool:
    return {"lt": left < right, "lte": left <= right, "gt": left > right, "gte": left >= right}[op]


def holds(row: dict[str, Any], op: str, field: str, wanted: Any) -> bool:
    value = look_up(row, field)
    if value is None:
        return False
    if op == "exists":
        return True
    if op in ("older_than", "within"):
        age = timedelta(days=int(wanted[:-1]))
        return value < NOW - age if op == "older_than" else value >= NOW - age
    if op in ("before", "after"):
        moment = datetime.fromisoformat(wanted)
        return value < moment if op == "before" else value > moment
    if op == "between" and isinstance(value, datetime):
        return datetime.fromisoformat(wanted[0]) <= value <= datetime.fromisoformat(wanted[1])
    if op == "between":
        return holds(row, "gte", field, wanted[0]) and holds(row, "lte", field, wanted[1])
    if field == "app_version" or (field == "os" and op in ("lt", "lte", "gt", "gte")):
        key = version(value)
        if key is None:
            return False
        if op in ("eq", "in"):
            return key in [version(item) for item in (wanted if op == "in" else [wanted])]
        return compare(op, key, version(wanted))
    if op == "eq":
        return same(value, wanted)
    if op == "in":
        return any(same(value, item) for item in wanted)
    if op == "prefix":
        return isinstance(value, str) and value.startswith(wanted)
    if op == "contains":
        if isinstance(value, list):
            return any(same(item, wanted) for item in value)
        return isinstance(value, str) and isinstance(wanted, str) and wanted in value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return compare(op, Decimal(repr(value)), Decimal(repr(wanted)))


NEGATIONS = {"ne": "eq", "not_in": "in", "not_exists": "exists"}


def matches(row: dict[str, Any], node: dict[str, Any]) -> bool:
    if "all" in node:
        return all(matches(row, child) for child in node["all"])
    if "any" in node:
        return any(matches(row, child) for child in node["any"])
    if "not" in node:
        return not matches(row, node["not"])
    op = node["op"]
    if op in NEGATIONS:
        return not holds(row, NEGATIONS[op], node["field"], node.get("value"))
    return holds(row, op, node["field"], node.get("value"))


TEXTS = st.sampled_from(["", "a", "ab", "%", "_", "a%b", "\\", "1", "true", "é", "A", "null"])
SOME_TEXTS = TEXTS.filter(bool)
NUMBERS = st.sampled_from([0, 1, -1, 2, 1.0, 1.5, 0.1, 10, 2**53, 1e300, -2.5])
SCALARS = TEXTS | NUMBERS | st.booleans()
KEYS = st.sampled_from(["k", "l", "m"])
DOCUMENTS = st.dictionaries(
    KEYS,
    st.none()
    | SCALARS
    | st.lists(SCALARS | st.none(), max_size=3)
    | st.dictionaries(KEYS, SCALARS | st.lists(SCALARS, max_size=2), max_size=2),
    max_size=3,
)
VERSIONS = st.sampled_from(["1", "1.0", "1.9", "1.10", "1.10.0", "2.0.1", "0", "0.0", "10", "1.10-rc1"])
DATES = st.integers(0, 8).map(lambda days: NOW - days * DAY) | st.just(NOW - 3 * DAY - timedelta(microseconds=1))
COUNTRIES = st.sampled_from(["KR", "JP", "US"])
USERS = st.fixed_dictionaries(
    {"external_id": st.sampled_from(["u1", "u2", "u3"]), "properties": DOCUMENTS, "created_at": DATES}
)
ROWS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["iOSPush", "Email"]),
        "country": COUNTRIES | st.just(""),
        "device_model": TEXTS,
        "os": VERSIONS | st.sampled_from(["", "x"]),
        "app_version": VERSIONS | st.sampled_from(["", "beta"]),
        "test_type": st.integers(0, 2),
        "tags": DOCUMENTS,
        "last_active_at": st.none() | DATES,
        "user": st.none() | USERS,
    }
)


def some(values: st.SearchStrategy[Any], largest: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=largest)


def condition(fields: list[str], ops: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda field, op, value: when(field, op, value), st.sampled_from(fields), st.sampled_from(ops.split()), values
    )


def pair(values: st.SearchStrategy[Any], key: Any) -> st.SearchStrategy[list[Any]]:
    return st.tuples(values, values).map(lambda both: sorted(both, key=key))


JSON_FIELDS = ["tags.k", "tags.l", "user.k", "user.k.l", "user.l"]
MOMENTS = DATES.map(datetime.isoformat)
CONDITIONS = st.one_of(
    condition(["type"], "eq ne", st.sampled_from(["iOSPush", "SMS"])),
    condition(["country"], "eq ne", COUNTRIES),
    condition(["country"], "in not_in", some(COUNTRIES)),
    condition(["device_model"], "eq ne prefix contains", SOME_TEXTS),
    condition(["os"], "lt lte gt gte", VERSIONS),
    condition(["os"], "eq ne prefix", VERSIONS),
    condition(["app_version"], "eq ne lt lte gt gte", VERSIONS),
    condition(["app_version"], "in not_in", some(VERSIONS)),
    condition(["app_version"], "between", pair(VERSIONS, version)),
    condition(["test_type"], "eq ne", st.integers(0, 2)),
    condition(["test_type"], "in not_in", some(st.integers(0, 2))),
    condition(
        ["last_active_at", "user.created_at"], "older_than within", st.integers(1, 8).map(lambda days: f"{days}d")
    ),
    condition(["last_active_at", "user.created_at"], "before after", MOMENTS),
    condition(["last_active_at", "user.created_at"], "between", pair(MOMENTS, datetime.fromisoformat)),
    condition(["external_id"], "eq ne", st.sampled_from(["u1", "u2"])),
    condition(["external_id"], "in not_in", some(st.sampled_from(["u1", "u2"]))),
    condition(JSON_FIELDS, "eq ne", SCALARS),
    condition(JSON_FIELDS, "in not_in", some(SCALARS)),
    condition(JSON_FIELDS, "in not_in", SCALARS.map(lambda value: [value] * 25)),
    condition(JSON_FIELDS, "lt lte gt gte", NUMBERS),
    condition(JSON_FIELDS, "between", pair(NUMBERS, None)),
    condition(JSON_FIELDS, "contains", SCALARS.filter(lambda value: value != "")),
    condition(JSON_FIELDS, "prefix", SOME_TEXTS),
    st.builds(
        when,
        st.sampled_from([*JSON_FIELDS, "country", "os", "app_version", "last_active_at", "external_id"]),
        st.sampled_from(["exists", "not_exists"]),
    ),
)
CRITERIA = st.recursive(
    CONDITIONS,
    lambda inner: (
        some(inner).map(lambda nodes: {"all": nodes})
        | some(inner).map(lambda nodes: {"any": nodes})
        | inner.map(lambda node: {"not": node})
    ),
    max_leaves=5,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=st.lists(ROWS, min_size=1, max_size=8), many=st.lists(CRITERIA, min_size=5, max_size=25))
def test_sql_and_plain_python_select_the_same(app, rows, many) -> None:
    Subscription.with_archived.filter(application=app).delete()
    AppUser.with_archived.filter(application=app).delete()
    stored: dict[uuid.UUID, dict[str, Any]] = {}
    users: dict[str, tuple[AppUser, dict[str, Any]]] = {}
    for row in rows:
        user = None
        if row["user"]:
            name = row["user"]["external_id"]
            if name not in users:
                users[name] = (AppUser.objects.create(application=app, **row["user"]), row["user"])
            user, known = users[name]
            row = {**row, "user": known}
        fields = {
            key: row[key] for key in ("type", "device_model", "app_version", "test_type", "tags", "last_active_at")
        }
        id_ = subscription(
            app, user, country_code=row["country"], device_os=row["os"], created_at=timezone.now(), **fields
        )
        stored[id_] = row
    for criteria in many:
        expected = {id_ for id_, row in stored.items() if matches(row, criteria)}
        assert selected(criteria) == expected, (criteria, describe(criteria))


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["country", "tags.a", "eq", "in", "30d"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["all", "any", "not", "segment", "field", "op", "value"]) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(ANYTHING)
def test_any_json_compiles_or_is_refused(criteria) -> None:
    try:
        predicate = compile_criteria(criteria)
    except TargetingError as error:
        assert error.message  # noqa: PT017
    else:
        assert predicate.sql.count("%s") == len(predicate.params)
