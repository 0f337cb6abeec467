"""HPACK against an independent implementation: what we write it reads, what it writes we read."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.messaging.adapters.http2.headers import (
    HeaderError,
    encode_lines,
    encode_path,
    encode_target,
    read_answer_headers,
)

names = st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=1, max_size=40).map(lambda n: "x-" + n)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=400)


@given(st.lists(st.tuples(names, values), max_size=10), values)
def test_what_we_write_is_read_by_another(fields, path):
    lines = [f"{name}: {value}".encode() for name, value in fields]
    block = encode_target(b"api.push.apple.com:443") + encode_path(b"/" + path.encode()) + encode_lines(lines)
    decoded = hpack.Decoder().decode(block)
    assert [tuple(field) for field in decoded] == [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "api.push.apple.com:443"),
        (":path", "/" + path),
        *fields,
    ]


def test_the_authorization_is_never_indexed_on_the_way():
    (field,) = hpack.Decoder().decode(encode_lines([b"authorization: bearer secret"]))
    assert isinstance(field, hpack.NeverIndexedHeaderTuple)


@pytest.mark.parametrize("huffman", [True, False])
@given(st.sampled_from([200, 204, 400, 403, 404, 410, 429, 500, 503]), st.lists(st.tuples(names, values), max_size=8))
def test_what_another_writes_without_a_table_is_read(huffman, status, fields):
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    retry_after = [("retry-after", "17")] if status in (429, 503) else []
    block = encoder.encode([(":status", str(status)), *fields, *retry_after], huffman=huffman)
    assert read_answer_headers(block) == (status, 17.0 if retry_after else None)


def test_a_retry_after_that_is_a_date_is_left_aside():
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    block = encoder.encode([(":status", "503"), ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")])
    assert read_answer_headers(block) == (503, None)


@given(st.binary(max_size=60))
def test_nonsense_is_an_error_of_ours_or_an_answer(block):
    try:
        status, retry_after_s = read_answer_headers(block)
    except (HeaderError, ValueError):
        return
    assert isinstance(status, int)
    assert retry_after_s is None or retry_after_s >= 0
