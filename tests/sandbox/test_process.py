"""The command line: when it refuses to run, the certificate authority, the life of a process."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apps.sandbox.authority import ensure_authority
from apps.sandbox.client import ROOT, Sandbox, running_sandbox
from apps.sandbox.credentials import make_apns_key
from tests.sandbox.requests import push_body, push_headers
from tests.sandbox.wire import Wire


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AUTOMATA_")}
    return subprocess.run(
        [sys.executable, "-m", "apps.sandbox", *arguments],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({}, "AUTOMATA_SANDBOX=1"),
        ({"AUTOMATA_SANDBOX": "0"}, "AUTOMATA_SANDBOX=1"),
        ({"AUTOMATA_SANDBOX": "1", "AUTOMATA_ENV": "production"}, "AUTOMATA_ENV=production"),
        ({"AUTOMATA_SANDBOX": "1", "AUTOMATA_ENV": " Production "}, "AUTOMATA_ENV=production"),
    ],
)
def test_it_refuses_to_run_unless_asked_for(tmp_path: Path, environment: dict[str, str], text: str) -> None:
    done = run("ca", "--ca-dir", str(tmp_path / "ca"), **environment)
    assert done.returncode == 2
    assert text in done.stderr
    assert not (tmp_path / "ca").exists()


def test_ca_makes_a_private_authority_once(tmp_path: Path) -> None:
    first = run("ca", "--ca-dir", str(tmp_path), AUTOMATA_SANDBOX="1")
    assert first.stdout.strip() == str(tmp_path / "ca.pem")
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made.keys() == {".lock", "ca.pem", "ca-key.pem", "server.pem", "server-key.pem"}
    for key in ("ca-key.pem", "server-key.pem"):
        assert (tmp_path / key).stat().st_mode & 0o777 == 0o600
    ensure_authority(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == made


def test_processes_that_start_together_share_one_authority(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "apps.sandbox", "ca", "--ca-dir", str(tmp_path)]
    environment = {**os.environ, "AUTOMATA_SANDBOX": "1"}
    processes = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(timeout=30) for process in processes] == [0, 0, 0]
    authority = ensure_authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server_file, authority.server_key_file)


def test_a_new_name_gives_a_new_server_certificate_of_the_same_authority(tmp_path: Path) -> None:
    authority = ensure_authority(tmp_path)
    ca, server = authority.ca_file.read_bytes(), authority.server_file.read_bytes()
    ensure_authority(tmp_path, ["sandbox"])
    assert authority.ca_file.read_bytes() == ca
    assert authority.server_file.read_bytes() != server


def test_old_tls_is_refused(apns: Sandbox) -> None:
    context = ssl.create_default_context(cafile=str(apns.ca_file))
    context.set_alpn_protocols(["h2"])
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    port = int(apns.url.rsplit(":", 1)[1])
    with socket.create_connection(("localhost", port), timeout=5) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_taken_port_is_one_clear_line(apns: Sandbox, ca_dir: Path) -> None:
    port = apns.url.rsplit(":", 1)[1]
    done = run("apns", "--ca-dir", str(ca_dir), "--port", port, AUTOMATA_SANDBOX="1")
    assert done.returncode == 1
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_keys_may_be_given_at_the_start_and_the_process_ends_with_the_block(tmp_path: Path, ca_dir: Path) -> None:
    key = make_apns_key()
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([key.registration()]), encoding="utf-8")
    with running_sandbox("apns", ca_dir=ca_dir, arguments=("--keys", str(keys), "--journal-size", "10")) as sandbox:
        with Wire(sandbox.url, sandbox.ca_file) as wire:
            headers = push_headers(key)
            for number in range(25):
                assert wire.send("POST", f"/3/device/{number:02d}", headers, push_body()).status == 200
        page = sandbox.control.journal(since=1)
        assert [entry["token"] for entry in page["entries"]] == [f"{number:02d}" for number in range(15, 25)]
        assert page["lost"] == 14
        assert sandbox.control.stats()["accepted"] == 25
        assert len(sandbox.control.accepted_by_token()) == 10
    assert not Path(f"/proc/{sandbox.pid}").exists()


def test_a_process_ends_when_its_parent_is_killed(tmp_path: Path, ca_dir: Path) -> None:
    parent = (
        "import sys, time, pathlib\n"
        "from apps.sandbox.client import running_sandbox\n"
        f"with running_sandbox('apns', ca_dir=pathlib.Path({str(ca_dir)!r})) as sandbox:\n"
        "    print(sandbox.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        child = int(output.readline())
        process.kill()
        process.wait()
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
