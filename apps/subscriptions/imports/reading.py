"""A CSV file as records, each with its lines and the byte behind it, so that reading can go on there.

RFC 4180, strictly: quotes are doubled, and quoted fields may hold delimiters and line breaks. Lines are cut as bytes:
in UTF-8 and in CP949 no byte of a longer character is a line feed. `csv` takes one line after the other and never one
more than the record needs, so the lines it took say where the record ends.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from automata_signal.errors import ValidationFailed

UTF_8, CP949 = "utf-8", "cp949"
ENCODINGS = (UTF_8, CP949)
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
RECORD_MAX_BYTES = 512 * 1024
FIELD_MAX_CHARS = csv.field_size_limit()
"""Python's own, 131,072: the limit is the whole process's, so it is not moved."""
COLUMNS_MAX = 200
COLUMN_NAME_MAX = 200
SAMPLE_BYTES = 4 * 1024 * 1024
"""Of the beginning of a file: what its encoding is found by. A header is shorter."""
_UTF_8_BOM = b"\xef\xbb\xbf"


class UnreadableFile(ValidationFailed):
    """What is wrong with a file as a whole; the message names the line."""

    code = "UNREADABLE_FILE"

    def __init__(self, message: str, *, field: str = "file") -> None:
        super().__init__(f"{field}: {message}")
        self.details = ValidationFailed.of(field, message).details


class Record(NamedTuple):
    line: int
    """Its first line, from 1."""
    cells: list[str]
    problem: str
    """Why it cannot be read; then `cells` is empty."""
    next_offset: int
    next_line: int


class Layout(NamedTuple):
    """How a file is written, and where its first line after the header is."""

    encoding: str
    delimiter: str
    header: list[str]
    first_offset: int
    first_line: int


def records(file: BinaryIO, *, encoding: str, delimiter: str, offset: int, line: int) -> Iterator[Record]:
    """The records from here on; `file` stands at `offset`, which is the beginning of `line`. Empty lines are left out.

    A record that cannot be read is one with a problem, and reading goes on behind it. Raises `UnreadableFile` where the
    end of a record cannot be told: a quote that is never closed, a line without end.
    """
    lines = _Lines(file, encoding, offset, line)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        first = lines.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(first, [], _problem_of(error, first), lines.offset, lines.line)
        else:
            if any(cells):
                yield Record(first, cells, "", lines.offset, lines.line)


def _problem_of(error: csv.Error, line: int) -> str:
    """What is wrong with this record alone. Raises `UnreadableFile` for what makes the rest unreadable as well."""
    text = str(error)
    if "unexpected end of data" in text:
        raise UnreadableFile(f"line {line}: a quote is opened and never closed")
    if "field larger than" in text:
        limit = f"a field is longer than {FIELD_MAX_CHARS:,} characters"
        raise UnreadableFile(f"line {line}: {limit}, or a quote is opened and never closed")
    if "new-line character" in text:
        return "holds a carriage return that is not part of a line end; lines end with LF or CRLF"
    return "a quote stands within a quoted field; write it twice"


class _Lines:
    """The physical lines as text. Bytes that are not of the encoding become lone surrogates: see `undecoded`."""

    def __init__(self, file: BinaryIO, encoding: str, offset: int, line: int) -> None:
        self._file = file
        self._encoding = encoding
        self.offset = offset
        self.line = line
        self._record_offset = offset
        self._record_line = line

    def begin_record(self) -> int:
        self._record_offset, self._record_line = self.offset, self.line
        return self.line

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = self._file.readline(RECORD_MAX_BYTES + 1)
        if not raw:
            raise StopIteration
        self.offset += len(raw)
        self.line += 1
        if self.offset - self._record_offset > RECORD_MAX_BYTES:
            raise UnreadableFile(
                f"line {self._record_line} is longer than {RECORD_MAX_BYTES:,} bytes, or a quote is never closed"
            )
        try:
            return raw.decode(self._encoding)
        except UnicodeDecodeError:
            return raw.decode(self._encoding, "surrogateescape")


def undecoded(text: str) -> bool:
    """Whether there are bytes in it that are not of the file's encoding."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


# --- The layout --------------------------------------------------------------------------------------------------


def read_layout(file: BinaryIO, *, encoding: str = "", delimiter: str = "") -> Layout:
    """The layout of a file that stands at its beginning; what is not given is found. Raises `UnreadableFile`."""
    sample = file.read(SAMPLE_BYTES)
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in sample.partition(b"\n")[0]:
        raise UnreadableFile("is UTF-16 or no text at all; save it as CSV UTF-8")
    start = len(_UTF_8_BOM) if sample.startswith(_UTF_8_BOM) else 0
    if not sample[start:].strip():
        raise UnreadableFile("is empty")
    if start and encoding == CP949:
        raise UnreadableFile("begins with the mark of UTF-8 and is not CP949", field="encoding")
    encoding = encoding or (UTF_8 if start else found_encoding(sample))
    delimiter = delimiter or _found_delimiter(sample[start:].splitlines()[0].decode(encoding, "replace"))
    file.seek(start)
    first = next(records(file, encoding=encoding, delimiter=delimiter, offset=start, line=1), None)
    if first is None:
        raise UnreadableFile("is empty")
    if first.problem:
        raise UnreadableFile(f"line {first.line}: {first.problem}")
    header = [name.strip() for name in first.cells]
    _check_header(header, first.line)
    return Layout(encoding, delimiter, header, first.next_offset, first.next_line)


def found_encoding(sample: bytes) -> str:
    """UTF-8 unless most of the lines that are not plain ASCII can only be CP949, as Excel writes it in Korea.

    Korean text in CP949 is hardly ever valid UTF-8 (RFC 3629, section 1). One bad line makes no file CP949.
    """
    votes = {UTF_8: 0, CP949: 0}
    lines = sample.splitlines()
    whole = lines if len(sample) < SAMPLE_BYTES else lines[:-1]
    for line in whole:
        if not line.isascii():
            votes[_encoding_of(line)] += 1
    return CP949 if votes[CP949] > votes[UTF_8] else UTF_8


def _encoding_of(line: bytes) -> str:
    for encoding in ENCODINGS:
        try:
            line.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return UTF_8  # neither: the error then names the byte


def _found_delimiter(first_line: str) -> str:
    """The delimiter that the header has most of, outside of quotes; a comma if it has none."""
    unquoted = "".join(first_line.split('"')[::2])
    return max(DELIMITERS, key=unquoted.count)


def _check_header(header: list[str], line: int) -> None:
    if len(header) > COLUMNS_MAX:
        raise UnreadableFile(f"line {line}: there are {len(header)} columns, at most {COLUMNS_MAX} are allowed")
    for number, name in enumerate(header, 1):
        where = f"line {line}, column {number}"
        if not name:
            raise UnreadableFile(f"{where}: the column has no name")
        if undecoded(name):
            raise UnreadableFile(f"{where}: the name is not in the encoding of the file")
        if len(name) > COLUMN_NAME_MAX or not name.isprintable():
            raise UnreadableFile(f"{where}: the name is longer than {COLUMN_NAME_MAX} characters, or cannot be printed")
        if name in header[: number - 1]:
            raise UnreadableFile(f"{where}: there is a column {name} already")
