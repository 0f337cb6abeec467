"""CSV that a spreadsheet may open: a value that it would run as a formula is shown as text instead.

OWASP, "CSV Injection": a cell that begins with = + - @, tab or carriage return is a formula to Excel, LibreOffice or
Google Sheets; Excel in Japanese and Korean takes the full-width forms as well. An apostrophe before it makes it text.
What cannot be run, a plain number such as -12.5 or +821012345678, stays as it is. Rows are as RFC 4180 has them.

`neutralised` is for values in Python, `neutralised_sql` for a COPY whose rows never become Python objects; both come
from the same two patterns, and a test holds them equal.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from io import StringIO

BOM = "\ufeff".encode()
"""First in a file for Excel, which takes a CSV file without it for the system's own code page."""

# Spaces and invisible characters in front are skipped: some programs trim them before they look. They are listed, as
# the classes of Python and PostgreSQL (`\s`) differ.
_SKIPPED = " \u00a0\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\u3000\ufeff"
_SIGNS = "=+@\uff1d\uff0b\uff20\u2212\uff0d-"
_CONTROLS = "\t\r\n\x0b\x0c"
FORMULA = f"^[{_SKIPPED}]*[{_CONTROLS}{_SIGNS}]"
NUMBER = r"^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"

_formula = re.compile(FORMULA)
_number = re.compile(NUMBER[:-1] + r"\Z")  # $ would let a line break follow


def neutralised(text: str) -> str:
    """`text` as a spreadsheet may have it: with an apostrophe before it if it would be run as a formula."""
    if _formula.match(text) is None or _number.match(text) is not None:
        return text
    return "'" + text


def neutralised_sql(expression: str) -> str:
    """The same for an SQL expression of type text; NULL stays NULL. The expression is written out four times."""
    return (
        f"CASE WHEN {expression} ~ {_literal(FORMULA)} AND {expression} !~ {_literal(NUMBER)}"
        f" THEN '''' || {expression} ELSE {expression} END"
    )


def csv_lines(rows: Iterable[Iterable[object]], *, bom: bool = False) -> Iterator[bytes]:
    """Rows as lines of a CSV file, UTF-8 and CRLF. Text is neutralised; None is an empty field; what is no text
    (numbers, UUIDs, …) is written as it is."""
    held = StringIO()
    writer = csv.writer(held)
    if bom:
        yield BOM
    for row in rows:
        writer.writerow([neutralised(value) if isinstance(value, str) else value for value in row])
        yield held.getvalue().encode()
        held.seek(0)
        held.truncate()


def _literal(pattern: str) -> str:
    return "'" + pattern.replace("'", "''") + "'"
