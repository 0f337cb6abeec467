"""The part that measures open streams, in small."""

import pytest


@pytest.mark.thorough  # a process for the streams, one for the clients, and their application
@pytest.mark.timeout(180)
def test_fifty_streams_from_opening_to_figures(bench):
    result, figures = bench("live", "--connections", "50")
    assert result.returncode == 0, result.stdout
    assert figures["50 streams", "open"]["value"] == 50
    assert 0 < figures["50 streams", "database connections"]["value"] <= 4
    for case, events in (("a message to all of 50", 250), ("one message after another, 50 open", 300)):
        assert (figures[case, "events"]["value"], figures[case, "cut off"]["value"]) == (events, 0)
        assert 0 < figures[case, "p50"]["value"] <= figures[case, "longest"]["value"]
