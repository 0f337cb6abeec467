"""The checks that both push providers share, and bad input of every kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.messaging.adapters.apns import ApnsAdapter
from apps.messaging.adapters.base import Adapter, Content, ContentError
from apps.messaging.adapters.fcm import FcmAdapter
from apps.messaging.adapters.push_content import PushOptions, check_options, read_options

ADAPTERS = [ApnsAdapter(), FcmAdapter()]
both = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"unknown": 1}, "options.unknown"),
        ({"ttl_s": 60}, "options.ttl_s"),
        ({"badge": -1}, "options.badge"),
        ({"badge": True}, "options.badge"),
        ({"badge": "3"}, "options.badge"),
        ({"badge": 2**31}, "options.badge"),
        ({"image": "http://example.com/a.png"}, "options.image"),
        ({"image": "https://"}, "options.image"),
        ({"image": "https://[x/a.png"}, "options.image"),
        ({"image": "https://example.com/a b.png"}, "options.image"),
        ({"image": 1}, "options.image"),
        ({"collapse_key": "x" * 65}, "options.collapse_key"),
        ({"collapse_key": "a\r\nb: c"}, "options.collapse_key"),
        ({"collapse_key": "한글"}, "options.collapse_key"),
        ({"priority": "urgent"}, "options.priority"),
        ({"priority": []}, "options.priority"),
        ({"silent": "yes"}, "options.silent"),
        ({"silent": 1}, "options.silent"),
        ({"sound": None}, "options.sound"),
        ({"thread_id": "x" * 129}, "options.thread_id"),
        ({"subtitle": "\0"}, "options.subtitle"),
    ],
)
def test_a_wrong_option_is_refused_with_its_path(options, field):
    with pytest.raises(ContentError) as error:
        check_options(options)
    assert error.value.field == field


def test_no_options_are_the_defaults():
    assert read_options({}) == PushOptions()
    assert read_options({"collapse_key": "x" * 64, "badge": 0}) == PushOptions(collapse_key="x" * 64, badge=0)


@both
@pytest.mark.parametrize(
    ("content", "field"),
    [
        (Content(title="\ud83d"), "title"),
        (Content(body="a\0b"), "body"),
        (Content(body="가\0"), "body"),
        (Content(title=7), "title"),  # type: ignore[arg-type]
        (Content(data=[1]), "data"),  # type: ignore[arg-type]
        (Content(data={"": 1}), "data"),
        (Content(data={1: 1}), "data"),  # type: ignore[dict-item]
        (Content(data={"a\0": 1}), "data"),
    ],
)
def test_text_that_no_device_can_hold_is_refused(adapter: Adapter, content: Content, field: str):
    with pytest.raises(ContentError) as error:
        adapter.check_content(content)
    assert error.value.field == field


@both
@pytest.mark.parametrize("value", ["\ud800", {"b": "\ud800"}, {1, 2}, 2**70, object()])
def test_data_that_json_cannot_hold_is_refused(adapter: Adapter, value: object):
    with pytest.raises(ContentError) as error:
        adapter.check_content(Content(data={"a": value}))
    assert error.value.field.startswith("data")


@both
@pytest.mark.parametrize("value", ["x\0", {"b": ["\0"]}, [{"\0": 1}]])
def test_nul_inside_of_data_is_refused(adapter: Adapter, value: object):
    with pytest.raises(ContentError) as error:
        adapter.check_content(Content(data={"a": value}))
    assert error.value.field.startswith("data")


@both
def test_text_that_looks_like_an_escape_is_sent(adapter: Adapter):
    adapter.check_content(Content(title="\\u0000", data={"a": "\\u0000"}))


@both
def test_a_template_that_renders_to_nothing_can_be_checked(adapter: Adapter):
    adapter.check_content(Content())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@both
@given(
    title=json_values | st.text(alphabet=st.characters()),
    data=st.dictionaries(st.text(alphabet=st.characters()), json_values, max_size=4),
    options=st.dictionaries(st.sampled_from([*PushOptions.__slots__, "other"]), json_values, max_size=4),
)
def test_whatever_comes_in_is_taken_or_refused_with_a_field(adapter: Adapter, title, data, options):
    field = "title"
    try:
        adapter.check_content(Content(title=title, data=data, options=options))
    except ContentError as error:
        field = error.field.split(".")[0]
    assert field in ("title", "body", "data", "options")
