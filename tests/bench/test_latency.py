"""What measures latency: the provider that says when a marked message came, and the part as a whole, in small."""

import time

import pytest

from bench.provider import MARK, Tally


def test_the_provider_notes_when_a_mark_came_first():
    tally = Tally()
    first, second = MARK + b"0123456789abcdef", MARK + b"00000000000000ff"
    began = time.monotonic()
    tally.note_marks(b'{"title":"' + first + b'"}' + MARK + b"not a mark")
    seen_at = tally.seen[first.decode()]
    tally.note_marks(first + second)
    assert began <= seen_at <= tally.seen[second.decode()] <= time.monotonic()
    assert tally.seen == {first.decode(): seen_at, second.decode(): tally.seen[second.decode()]}


@pytest.mark.thorough  # a web process, four workers and beat, for twelve messages
@pytest.mark.timeout(180)
def test_a_small_run_from_posts_to_figures(bench):
    result, figures = bench("latency", "--subscriptions", "500", "--recipients", "500", "--cases", "0 ms")
    assert result.returncode == 0, result.stdout
    for priority in ("High", "Medium"):
        case = f"{priority}, provider 0 ms"
        assert figures[case, "messages"]["value"] > 0
        assert figures[case, "missing"]["value"] == 0
        assert 0 < figures[case, "median"]["value"] <= figures[case, "longest"]["value"]
