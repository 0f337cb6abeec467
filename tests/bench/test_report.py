"""The figures: what machines read, and what people see."""

import json

from bench.report import Figure, Goal, Report, Spread


def test_the_file_is_a_list_of_figures_with_seven_fields(tmp_path):
    report = Report()
    report.add("pipeline", "plain", "rate", 21_500.123456, "msg/s", goal=Goal(20_000))
    report.add("pipeline", "plain", "connections", 51, goal=Goal(50, at_most=True))
    report.add("machine", "machine", "cpu", "a processor")
    report.write(tmp_path / "deep" / "figures.json")
    rows = json.loads((tmp_path / "deep" / "figures.json").read_text())
    assert [list(row) for row in rows] == [list(Figure._fields)] * 3
    assert rows[0] == {
        "part": "pipeline",
        "case": "plain",
        "metric": "rate",
        "value": 21_500.1235,
        "unit": "msg/s",
        "goal": ">= 20,000 msg/s",
        "met": True,
    }
    assert (rows[1]["goal"], rows[1]["met"]) == ("<= 50", False)
    assert (rows[2]["value"], rows[2]["goal"], rows[2]["met"]) == ("a processor", None, None)


def test_nothing_is_judged_on_a_server_that_does_not_write_to_the_disk():
    report = Report(quotable=False)
    figure = report.add("pipeline", "plain", "rate", 99_999.0, "msg/s", goal=Goal(20_000))
    assert (figure.goal, figure.met) == (">= 20,000 msg/s", None)
    assert report.missed == []


def test_the_table_has_a_line_for_each_case_and_names_what_was_missed():
    report = Report()
    report.add("growth", "small", "rate", 20_500.0, "msg/s", goal=Goal(20_000))
    report.add("growth", "large", "rate", 15_000.0, "msg/s", goal=Goal(20_000))
    report.add("growth", "large", "load", 0.25, "at start")
    report.add("limit", "other", "rate", 1.0)
    assert report.table("growth").splitlines() == [
        "case     rate   load",
        "        msg/s     at",
        "               start",
        "-----  ------  -----",
        "small  20,500",
        "large  15,000   0.25",
        "  MISSED  large: rate 15,000 msg/s (goal >= 20,000 msg/s)",
        "  1 of 2 goals met",
    ]


def test_runs_are_told_by_their_median_and_range():
    spread = Spread.of([21_000.4, 19_000.6, 20_000.0])
    assert spread.median == 20_000.0
    assert str(spread) == "19,001-21,000"
