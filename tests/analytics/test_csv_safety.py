"""What a spreadsheet would run is shown as text, and nothing else is changed."""

from __future__ import annotations

import csv
from io import StringIO

import pytest
from django.db import connection

from automata_signal.csv_safety import BOM, csv_lines, neutralised, neutralised_sql

DANGEROUS = [
    "=1+1",
    "=cmd|'/C calc'!A0",
    '=HYPERLINK("http://evil.example","here")',
    "+1+1",
    "-1+1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "\x0b=1",
    "\x0c=1",
    "＝1+1",
    "＋1+1",
    "－1+1",
    "＠SUM(1)",
    "\u22121+1",
    " =1+1",
    "\u00a0=1+1",
    "\u3000＝1+1",
    "\ufeff=1+1",
    "\u200b=1+1",
    "-12.5\n",
    "--5",
    "+",
    "-",
    "=",
    "-1e5x",
    "+82 10 1234 5678",
    "-١٢",
]
HARMLESS = [
    "",
    "plain",
    "안녕하세요",
    "a=b",
    "1+1",
    "-12.5",
    "+821012345678",
    "-3e-7",
    "+1E+5",
    "0",
    "'=1+1",
    '{"a": "=1"}',
    "{}",
    '"=1+1"',
    "user@example.com",
    "two\nlines\n=1",
    "a,b;c\td",
]


@pytest.mark.parametrize("text", DANGEROUS)
def test_what_would_be_run_is_text(text):
    assert neutralised(text) == "'" + text


@pytest.mark.parametrize("text", HARMLESS)
def test_what_would_not_be_run_stays(text):
    assert neutralised(text) == text


def test_neutralising_twice_changes_nothing_more():
    for text in (*DANGEROUS, *HARMLESS):
        assert neutralised(neutralised(text)) == neutralised(text)


def test_postgresql_agrees_on_every_text(db):
    """Also on each character of the basic plane, alone and before a formula."""
    signs = [chr(point) for point in range(1, 0x10000) if not 0xD800 <= point < 0xE000]
    texts = [*DANGEROUS, *HARMLESS, *signs, *(f"{sign}=1" for sign in signs), *(f"{sign}1" for sign in signs)]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT t, {neutralised_sql('t')} FROM unnest(%s::text[]) AS t", [texts])
        wrong = [(text, shown) for text, shown in cursor.fetchall() if shown != neutralised(text)]
        cursor.execute(f"SELECT {neutralised_sql('NULL::text')}")
        assert cursor.fetchone() == (None,)
    assert wrong == []


def test_rows_are_as_rfc_4180_has_them():
    rows = [["a", "b,c", 'say "hi"', "two\r\nlines"], ["=1+1", -5, None, ""], ["안녕", -1.5, "-1.5", "－1"]]
    content = b"".join(csv_lines(rows))
    assert content == ('a,"b,c","say ""hi""","two\r\nlines"\r\n\'=1+1,-5,,\r\n안녕,-1.5,-1.5,\'－1\r\n').encode()
    read = list(csv.reader(StringIO(content.decode(), newline="")))
    assert read[0] == rows[0]


def test_the_byte_order_mark_comes_first_and_once():
    assert b"".join(csv_lines([["a"], ["b"]], bom=True)) == BOM + b"a\r\nb\r\n"
