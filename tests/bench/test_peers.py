"""Measuring other libraries: what their scripts say, what is made of it, and the provider as they need it."""

import json
import os
import ssl
import subprocess
import sys
from contextlib import closing, contextmanager
from types import SimpleNamespace

import httpx
import pytest

from bench import peers
from bench.peers import Sent, install
from bench.report import Report
from tools.supervisor import ROOT

FOLDER = ROOT / "bench" / "peers"
SCRIPT = "from measure import Task, measure\nmeasure(Task.read(), lambda addresses: len(addresses))\n"


def arguments(tmp_path, addresses):
    files = {"addresses": "\n".join(addresses), "secret": '{"key_id": "K"}'}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    given = {"url": "https://localhost:1234", "ca-file": "ca.pem", "message": '{"title": "t"}', "count": "3"}
    given |= {"warm-up": "2", **{name: str(tmp_path / name) for name in files}}
    return [word for name, value in given.items() for word in (f"--{name}", value)]


def test_a_script_sends_a_warm_up_and_then_everything_and_tells_it_in_one_line(tmp_path):
    command = [sys.executable, "-c", SCRIPT, *arguments(tmp_path, "abcde")]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=30).stdout
    sent = peers.read(output, 3)
    assert (sent.messages, sent.accepted) == (3, 5)
    assert sent.rate == 3 / sent.seconds


@pytest.mark.parametrize("output", ["", "Traceback …\n", '{"accepted": 3}\n', "[]", '{"accepted": null, "seconds": 1}'])
def test_what_is_no_result_is_said_to_be_none(output):
    with pytest.raises(install.Unavailable, match="printed no result"):
        peers.read(output, 3)


def test_what_stands_before_the_last_line_is_talk():
    line = json.dumps({"accepted": 7, "seconds": 2.0, "cpu_us": 300.5})
    assert peers.read(f"a warning\n{line}\n", 6) == Sent(6, 7, 2.0, 300.5)


def test_a_result_counts_only_if_the_provider_says_the_same():
    peers.check(Sent(6, 7, 2.0, 300.0), expected=7, answered=7)
    for accepted, answered in ((6, 7), (7, 6), (6, 6)):
        with pytest.raises(install.Unavailable, match="of 7 messages"):
            peers.check(Sent(6, accepted, 2.0, 300.0), expected=7, answered=answered)


def test_we_are_held_against_the_fastest_of_each_language():
    bench = SimpleNamespace(report=Report())
    rates = {"slow.py": 1_000.0, "quick.py --async": 2_500.0, "node_apn.js": 25_000.0}
    peers.compare(bench, 20_000.0, rates)
    assert {(row.metric, row.value, row.goal, row.met) for row in bench.report.figures} == {
        ("x Python", 8.0, ">= 8", True),
        ("x node-apn", 0.8, ">= 1", False),
    }


def test_what_could_not_be_measured_is_held_against_nothing():
    bench = SimpleNamespace(report=Report())
    peers.compare(bench, 20_000.0, {})
    assert bench.report.figures == []


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_every_peer_has_its_script(peer):
    assert (FOLDER / peer.script.split()[0]).is_file()


def test_the_locks_have_hashes_and_name_no_host():
    python, node = install.PYTHON_LOCK.read_text(), install.NPM_FILES[1].read_text()
    assert "--hash=sha256:" in python
    assert "://" not in python
    packages = json.loads(node)["packages"].values()
    assert all("integrity" in package for package in packages if "version" in package)
    assert not any("resolved" in package for package in packages)


def test_an_environment_is_made_once_for_each_content_of_its_lock(tmp_path):
    lock, folder, made = tmp_path / "lock", tmp_path / "there", []
    for content in ("one", "one", "two"):
        lock.write_text(content)
        install._once(folder, [lock], lambda: made.append((folder / "left over").touch()))
    assert len(made) == 2


def test_a_registry_that_is_not_there_is_one_line():
    failing = "import sys; print('looking'); sys.exit('ERROR: no route\\nto host')"
    with pytest.raises(install.Unavailable, match="ERROR: no route") as caught:
        install._must([sys.executable, "-c", failing])
    assert "\n" not in str(caught.value)


def test_a_machine_without_node_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(install.Unavailable, match="there is no node on this machine"):
        install.node_modules(tmp_path / "there")


# --- The provider --------------------------------------------------------------------------------------------------


@contextmanager
def provider(name, tmp_path):
    """Its address, and a TLS context that trusts it."""
    command = [sys.executable, "-m", "bench.provider", name, "--ca-dir", str(tmp_path), "--echo-ids"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        ready = json.loads(process.stdout.readline())
        yield ready["url"], ssl.create_default_context(cafile=tmp_path / "ca.pem")
    finally:
        process.kill()
        process.communicate()


def test_apns_answers_bear_the_id_of_their_request(tmp_path):
    with provider("apns", tmp_path) as (url, context), closing(httpx.Client(http2=True, verify=context)) as client:
        for number in range(3):  # from the second request on, names of headers come from the connection's table
            given = f"0193-{number}"
            answer = client.post(f"{url}/3/device/ab", headers={"apns-id": given, "apns-topic": "x"}, json={"aps": {}})
            assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
            assert answer.headers["apns-id"] == given


def test_fcm_also_speaks_http_1(tmp_path):
    with provider("fcm", tmp_path) as (url, context), closing(httpx.Client(verify=context)) as client:
        for body in ({"message": {"token": "x" * 40_000}}, {"message": {}}):
            answer = client.post(f"{url}/v1/projects/bench/messages:send", json=body)
            assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")
            assert answer.json()["name"].startswith("projects/bench/messages/")
