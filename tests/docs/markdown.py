"""Tables of a document, for tests that hold them against the code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def text(name: str) -> str:
    return (DOCS / name).read_text()


def tables(document: str, heading: str) -> list[list[dict[str, str]]]:
    """The tables under a heading, up to the next heading: rows by the names of their columns."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", without_code(document), re.MULTILINE | re.DOTALL)
    assert found, f"there is no heading {heading!r}"
    blocks = re.findall(r"(?:^\|.*\n?)+", found[1], re.MULTILINE)
    return [_rows(block) for block in blocks]


def table(document: str, heading: str) -> list[dict[str, str]]:
    """The one table under a heading."""
    [rows] = tables(document, heading)
    return rows


def _rows(block: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in block.splitlines()]
    names, _, *rows = lines
    return [dict(zip(names, row, strict=True)) for row in rows]


def without_code(document: str) -> str:
    """The document with its code blocks emptied: a `#` in them is no heading."""
    return re.sub(r"^```.*?^```$", "", document, flags=re.MULTILINE | re.DOTALL)


def codes(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)
