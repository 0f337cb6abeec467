"""Charts as SVG: round scales, well-formed, and nothing that somebody wrote becomes markup."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from apps.analytics.charts import NARROW, WIDE, Line, column_chart, line_chart, ticks


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (0, [0, 1]),
        (1, [0, 1]),
        (7, [0, 2, 4, 6, 8]),
        (10, [0, 5, 10]),
        (99, [0, 25, 50, 75, 100]),
        (1_234, [0, 500, 1_000, 1_500]),
        (1_000_000, [0, 250_000, 500_000, 750_000, 1_000_000]),
    ],
)
def test_scales_are_round_and_reach_the_top(top, expected):
    assert ticks(top) == expected


@pytest.mark.parametrize("count", [0, 1, 31, 744])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_a_chart_is_whole_for_any_number_of_points(count, width):
    labels = [f"{n}" for n in range(count)]
    for chart in (
        line_chart("t", labels, [Line("sent", "#000", [n * 3 for n in range(count)])], width=width),
        column_chart("t", labels, Line("sent", "#000", [0] * count), width=width),
    ):
        root = ElementTree.fromstring(chart)
        for element in root.iter():
            assert "nan" not in " ".join(element.attrib.values()).lower()


def test_what_people_wrote_is_text():
    chart = line_chart("<t>", ['"><script>'], [Line("<b>", "#000", [1])])
    assert "<script" not in chart
    assert "<b>" not in chart
    titles = [element.text for element in ElementTree.fromstring(chart).iter() if element.tag == "title"]
    assert titles == ["<t>", '"><script>: <b> 1']
