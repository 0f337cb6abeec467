"""Campaigns on the other channels: a small one as it is used, and what makes a figure no figure."""

from types import SimpleNamespace

import pytest

from bench.channels import CHANNELS, send
from bench.seeding import address
from bench.standin import STAND_INS, alimtalk_template
from tools import processes
from tools.supervisor import ROOT, StackError

PERFORMANCE = (ROOT / "docs" / "performance.md").read_text()


@pytest.mark.timeout(270)
def test_a_small_campaign_of_text_messages_whose_gateway_is_a_process_of_its_own(bench):
    result, figures = bench(
        "pipeline", "--channel", "sms", "--recipients", "500", "--cases", "personalised", "--runs", "1"
    )
    assert result.returncode == 0, result.stdout
    assert figures["personalised", "rate"]["goal"] == ">= 10,000 msg/s"
    assert figures["personalised", "rate"]["part"] == "pipeline: sms"
    assert figures["personalised", "workers"]["value"] > 1


@pytest.mark.parametrize(("successful", "taken"), [(9, 10), (10, 9), (10, 11)])
def test_a_run_counts_only_if_the_peer_saw_each_message_once(successful, taken):
    seen = iter((5, 5 + taken))
    peer = SimpleNamespace(answered=lambda: next(seen), command="solapi")
    bench = SimpleNamespace(send=lambda *_, **__: SimpleNamespace(recipients=10), sql=lambda *_: [(successful,)])
    with pytest.raises(StackError, match=f"10 recipients, {successful} successful, {taken} taken by the peer"):
        send(bench, None, peer, CHANNELS["sms"], SimpleNamespace(pk=None), personalised=False)


def test_every_channel_has_a_campaign_and_every_provider_a_stand_in():
    assert {"push", *CHANNELS} == set(processes.CHANNELS)
    assert {provider for channel in CHANNELS.values() for provider in channel.providers} == set(STAND_INS)


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_document_says_how_each_was_measured_and_against_which_goal(channel):
    assert f"`./run bench pipeline --channel {channel}" in PERFORMANCE
    assert f"{CHANNELS[channel].goal.bound:,.0f}" in PERFORMANCE.partition("## The other channels")[2]


def test_addresses_are_each_of_one_place_and_no_markers():
    for channel in CHANNELS.values():
        found = {address(channel.type, place) for place in range(1, 101)}
        assert len(found) == 100
        assert not any("+" in one[1:] or one.startswith("+820100") for one in found)


def test_the_alimtalk_has_variables_that_the_template_has():
    content = alimtalk_template()["content"]
    for words in (CHANNELS["kakao"].plain, CHANNELS["kakao"].personal):
        assert all(f"#{{{name}}}" in content for name in words["data"])
