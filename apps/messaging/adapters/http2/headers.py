"""HPACK (RFC 7541), as far as a client of small POSTs needs it.

We send literals without indexing, which is what Apple asks for of `:path` and `authorization`, and no Huffman codes. We
announce a table of size 0, so the peer can use no dynamic table either: header blocks have no state, and all but the
status, and Retry-After of a refusal, is skipped unread.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from hpack.huffman_table import decode_huffman

# Places in the static table (RFC 7541, appendix A).
_STATUS_BY_INDEX = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
_STATUS_NAMES = frozenset(_STATUS_BY_INDEX)
_RETRY_AFTER_NAME = 53
_STATIC_ENTRIES = 61

_POST_HTTPS = b"\x83\x87"
"""`:method: POST` and `:scheme: https`, which are entries of the static table."""
_AUTHORITY, _PATH = b"\x01", b"\x04"
_NEVER_INDEXED = {b"authorization": b"\x1f\x08"}
_KNOWN_NAMES = {b"content-type": b"\x0f\x10", b"accept": b"\x0f\x04", b"user-agent": b"\x0f\x2b"}


class HeaderError(ValueError):
    """The peer's header block breaks RFC 7541 or uses the table that we have not given it."""


def encode_target(authority: bytes) -> bytes:
    """The pseudo-headers of a POST, but for the path, which comes next."""
    return b"%b%b%b" % (_POST_HTTPS, _AUTHORITY, _string(authority))


def encode_path(path: bytes) -> bytes:
    """The pseudo-header that completes `encode_target`."""
    length = len(path)
    if length < 127:
        return b"%b%c%b" % (_PATH, length, path)
    return _PATH + _string(path)


def encode_lines(lines: Iterable[bytes]) -> bytes:
    """Header fields given as `name: value` lines, names in lower case."""
    parts = []
    for line in lines:
        name, _, value = line.partition(b": ")
        parts.append(_name(name) + _string(value))
    return b"".join(parts)


@lru_cache(maxsize=256)
def _name(name: bytes) -> bytes:
    return _NEVER_INDEXED.get(name) or _KNOWN_NAMES.get(name) or b"\x00" + _string(name)


def _string(value: bytes) -> bytes:
    length = len(value)
    if length < 127:
        return bytes((length,)) + value
    prefix = bytearray((127,))
    length -= 127
    while length >= 128:
        prefix.append(128 | (length & 127))
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + value


def read_answer_headers(block: bytes) -> tuple[int, float | None]:
    """(status, Retry-After in seconds) of an answer; status 0 in a block without one (trailers).

    Retry-After is read only if it is not 200, and only as a number of seconds. Raises `HeaderError`.
    """
    if block[:1] == b"\x88" or block[:2] == b"\x20\x88":  # after a change of the table's size to 0
        return 200, None
    try:
        return _read(block)
    except IndexError:
        raise HeaderError("a header block ends in the middle of a field") from None


def _read(block: bytes) -> tuple[int, float | None]:
    status, retry_after_s, at = 0, None, 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # a whole field of the table
            index, at = _integer(block, at, 7)
            if not 1 <= index <= _STATIC_ENTRIES:
                raise HeaderError("an entry of a table that was not given")
            status = _STATUS_BY_INDEX.get(index, status)
            continue
        if first & 0xE0 == 0x20:  # a new size of the table
            _, at = _integer(block, at, 5)
            continue
        index, at = _integer(block, at, 6 if first & 0x40 else 4)
        if index > _STATIC_ENTRIES:
            raise HeaderError("an entry of a table that was not given")
        name = None
        if index == 0:
            name, at = _raw_string(block, at)
        value, at = _raw_string(block, at)
        if index in _STATUS_NAMES or (name is not None and _text(*name) == b":status"):
            status = int(_text(*value))
        elif index == _RETRY_AFTER_NAME or (name is not None and _text(*name) == b"retry-after"):
            seconds = _text(*value)
            retry_after_s = float(seconds) if seconds.isdigit() else None
    return status, retry_after_s


def _integer(block: bytes, at: int, prefix_bits: int) -> tuple[int, int]:
    """(number, where it ends): RFC 7541, section 5.1."""
    most = (1 << prefix_bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return value, at
        if shift > 28:
            raise HeaderError("a number is too long")


def _raw_string(block: bytes, at: int) -> tuple[tuple[bytes, bool], int]:
    """((bytes, whether Huffman-coded), where it ends)."""
    is_coded = bool(block[at] & 0x80)
    length, at = _integer(block, at, 7)
    if at + length > len(block):
        raise HeaderError("a text ends behind its block")
    return (block[at : at + length], is_coded), at + length


@lru_cache(maxsize=1024)
def _text(raw: bytes, is_coded: bool) -> bytes:
    return bytes(decode_huffman(raw)) if is_coded else raw
