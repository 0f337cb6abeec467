"""Every file that a spreadsheet, a database or a careless hand may write is read, or refused with its line."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.subscriptions.imports.reading import UnreadableFile, read_layout, records
from apps.subscriptions.imports.steps import import_step
from apps.subscriptions.models import AppUser
from automata_signal.private_files import FRAME_BYTES, open_sealed, save_sealed
from tests.subscriptions.importing import applied, checked, errors, upload

HEADER = "external_id,properties.name\n"


def names(application) -> dict[str, str]:
    found = AppUser.objects.for_application(application).values_list("external_id", "properties")
    return {external_id: properties.get("name") for external_id, properties in found}


# --- Good files ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("external_id,properties.name\nkim,김철수\n".encode(), "utf-8"),
        ("external_id,properties.name\nkim,김철수".encode("utf-8-sig"), "utf-8"),
        ("external_id,properties.name\r\nkim,김철수\r\n".encode("cp949"), "cp949"),
        ("external_id;properties.name\r\nkim;김철수\r\n\r\n;\r\n".encode(), "utf-8"),
        ("external_id\tproperties.name\nkim\t김철수\n".encode("cp949"), "cp949"),
        ('"external_id","properties.name"\n"kim","김철수"\n'.encode(), "utf-8"),
        ("\n\nexternal_id , PROPERTIES.name\n\n kim , 김철수 \n".encode(), "utf-8"),
        ('properties.name,External_ID\n"김철수",kim\n'.encode(), "utf-8"),
    ],
)
def test_files_of_spreadsheets_are_read(application, data, encoding):
    run = applied(application, "users", data)
    assert (run.state, run.encoding, run.rejected_rows) == ("done", encoding, 0), run.last_error
    assert names(application) == {"kim": "김철수"}


@pytest.mark.django_db
def test_the_encoding_may_be_said(application):
    data = (HEADER + "kim,김철수\n").encode("cp949")
    assert errors(checked(application, "users", data, encoding="utf-8")) == {
        2: "properties.name: holds bytes that are not in the encoding of the file"
    }
    applied(application, "users", data, encoding="cp949")
    assert names(application) == {"kim": "김철수"}


@pytest.mark.django_db
def test_one_broken_line_does_not_make_a_file_cp949(application):
    data = HEADER.encode() + "a,김철수\nb,이영희\n".encode() + b"c,\xb1\xe8\n" + "d,박\n".encode()
    run = applied(application, "users", data)
    assert run.encoding == "utf-8"
    assert list(errors(run)) == [4]
    assert list(names(application)) == ["a", "b", "d"]


@pytest.mark.django_db
@pytest.mark.parametrize("lines_at_once", [1, 2, 3, 7])
@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_steps_may_end_anywhere(application, monkeypatch, lines_at_once, encoding):
    """Quoted line breaks, empty lines and longer characters at every border between two steps."""
    monkeypatch.setattr("apps.subscriptions.imports.steps.LINES_AT_ONCE", lines_at_once)
    people = [(f"사람{n}", '여러\n줄\r\n의 "이름", 쉼표' if n % 2 else f"이름{n}") for n in range(12)]
    text = io.StringIO()
    csv.writer(text).writerows([("external_id", "properties.name"), *people])
    data = text.getvalue().replace("사람3,", "\r\n\r\n사람3,").encode(encoding)
    run = applied(application, "users", data)
    assert (run.state, run.rejected_rows) == ("done", 0), run.last_error
    assert names(application) == dict(people)


# --- Bad files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \n", "is empty"),
        ("external_id\nx\n".encode("utf-16"), "is UTF-16"),
        (b"external_id\0\nx\n", "is UTF-16 or no text"),
        (b"a,a\n", "line 1, column 2: there is a column a already"),
        (b"a,,b\n", "line 1, column 2: the column has no name"),
        (b"a,b\xff\n", "line 1, column 2: the name is not in the encoding"),
        (b"a,b\x07\n", "line 1, column 2: the name is longer than 200 characters, or cannot be printed"),
        (b"a," + b"b" * 201, "line 1, column 2: the name is longer than 200"),
        (b",".join(b"c%d" % n for n in range(201)), "line 1: there are 201 columns"),
        (b'a,"b\n', "line 1: a quote is opened and never closed"),
        (b"a,b\rc,d\r", "line 1: holds a carriage return"),
        (b"x" * 600_000, "line 1"),
    ],
)
def test_a_file_without_a_usable_first_line_is_refused(data, message):
    with pytest.raises(UnreadableFile) as refusal:
        read_layout(io.BytesIO(data))
    assert message in str(refusal.value)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"x,a,b\n", "line: has 3 cells where the header has 2"),
        (b"x\n", "line: has 1 cells where the header has 2"),
        (b"x,a\0b\n", "properties.name: holds a NUL character"),
        (b"x,\xff\n", "properties.name: holds bytes that are not in the encoding of the file"),
        (b"x\x01y,a\n", "external_id: holds a control character, or spaces around it"),
        (b'x,"a"b\n', "line: a quote stands within a quoted field; write it twice"),
        (b"x,a\rb\n", "line: holds a carriage return that is not part of a line end; lines end with LF or CRLF"),
        (b"x" * 300 + b",a\n", "external_id: must have 1 to 255 characters"),
        (b"x," + b"a" * 40_000 + b"\n", "properties: are 40011 bytes of JSON: at most 32768 are allowed"),
    ],
)
def test_a_bad_line_is_refused_and_the_others_are_read(application, line, problem):
    run = applied(application, "users", HEADER.encode() + b"before,1\n" + line + b"after,2\n")
    assert errors(run) == {3: problem}
    assert names(application) == {"before": "1", "after": "2"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ('x,"never closed\ny,1\n', "line 3: a quote is opened and never closed"),
        ('x,"never closed\n' + "y,1\n" * 50_000, "line 3: a field is longer than 131,072 characters"),
        ("x," + "a" * 140_000 + "\n", "line 3: a field is longer than 131,072 characters"),
        ("x" * 600_000, "line 3 is longer than 524,288 bytes"),
    ],
)
def test_where_the_end_of_a_line_cannot_be_told_nothing_is_imported(application, rest, message):
    run = applied(application, "users", HEADER + "good,1\n" + rest)
    assert (run.state, AppUser.objects.count()) == ("failed", 0)
    assert message in run.last_error


# --- Any file --------------------------------------------------------------------------------------------------------

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
TABLE = st.lists(st.lists(CELL, min_size=3, max_size=3).filter(any), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    table=TABLE, newline=st.sampled_from(["\n", "\r\n"]), delimiter=st.sampled_from([",", ";", "\t"]), data=st.data()
)
def test_what_was_written_is_read_from_any_record_on(table, newline, delimiter, data):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL).writerows(table)
    raw = text.getvalue().encode()

    def read(offset: int, line: int) -> list:
        file = io.BytesIO(raw)
        file.seek(offset)
        return list(records(file, encoding="utf-8", delimiter=delimiter, offset=offset, line=line))

    found = read(0, 1)
    assert [record.cells for record in found] == table
    assert found[-1].next_offset == len(raw)
    start = data.draw(st.sampled_from(found))
    assert read(start.next_offset, start.next_line) == found[found.index(start) + 1 :]


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=200) | st.text(alphabet='a,"\n\r;\t\0é', max_size=60).map(str.encode))
def test_no_bytes_break_the_reader(raw):
    try:
        layout = read_layout(io.BytesIO(raw))
        list(records(io.BytesIO(raw), encoding=layout.encoding, delimiter=layout.delimiter, offset=0, line=1))
    except UnreadableFile:
        return


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 700_000), max_size=6), data=st.data())
def test_a_sealed_file_is_read_from_any_byte_on(sizes, data):
    pieces = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    plain = b"".join(pieces)
    name = save_sealed("tests/sealed", pieces)
    for offset in {0, len(plain), min(FRAME_BYTES, len(plain)), data.draw(st.integers(0, len(plain)))}:
        with open_sealed(name, offset=offset) as file:
            assert file.read() == plain[offset:]


@pytest.mark.django_db
def test_a_file_that_cannot_be_read_any_more_fails_the_import(application):
    from automata_signal.private_files import delete_file

    run = upload(application, "users", HEADER + "a,1\n")
    delete_file(run.stored_as)
    assert import_step(run.pk) is False
    run.refresh_from_db()
    assert (run.state, "not in the storage" in run.last_error) == ("failed", True)
