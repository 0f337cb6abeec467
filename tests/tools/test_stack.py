"""`./run` from the outside: what it says when something is in the way, and what it leaves."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.tools.conftest import Checkout, eventually, is_running
from tools.services import free_ports
from tools.stack import demo_addresses
from tools.supervisor import StackError

# A benchmark that tells where its services are and who they are, and then runs until it is ended.
BENCH = """
import os, sys, time
import psycopg, redis
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    [folder] = connection.execute("SHOW data_directory").fetchone()
    connection.execute("CREATE TABLE IF NOT EXISTS started (at timestamptz DEFAULT now())")
    connection.execute("INSERT INTO started DEFAULT VALUES")
    [runs] = connection.execute("SELECT count(*) FROM started").fetchone()
    [fsync] = connection.execute("SHOW fsync").fetchone()
postgres = open(os.path.join(folder, "postmaster.pid")).readline().strip()
server = redis.Redis.from_url(os.environ["REDIS_URL"]).info("server")["process_id"]
print("pids", os.getpid(), postgres, server, flush=True)
print("runs", runs, "fsync", fsync, flush=True)
if "stay" in sys.argv:
    time.sleep(600)
"""


def test_a_port_in_use_is_one_line(checkout: Checkout) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        code, output = checkout.run("-m", "tools.stack", "demo", PORT=str(port))
    assert code == 1
    assert output.startswith(f"run: Port {port} is in use")
    assert output.count("\n") == 1


@pytest.mark.parametrize("port", ["eighty", "0", "70000", "-1", ""])
def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("PORT", port)
    with pytest.raises(StackError, match="PORT is "):
        demo_addresses()


def test_a_database_that_does_not_answer_is_one_line(checkout: Checkout) -> None:
    [port] = free_ports(1)
    code, output = checkout.run("-m", "tools.stack", "test", DATABASE_URL=f"postgresql://u:hunter2@127.0.0.1:{port}/d")
    assert (code, output) == (1, f"run: DATABASE_URL: no answer from 127.0.0.1:{port}: Connection refused\n")


def test_without_benchmarks_the_bench_mode_says_so(checkout: Checkout) -> None:
    code, output = checkout.run("-m", "tools.stack", "bench")
    assert (code, output.count("\n")) == (2, 1)


def test_help_names_every_mode(checkout: Checkout) -> None:
    code, output = checkout.run("run", "--help")
    assert code == 0
    assert all(f"./run {mode}" in output for mode in ("demo", "test", "lint", "manage", "bench"))
    assert checkout.run("run") == (2, output)


def test_an_unknown_mode_is_one_line(checkout: Checkout) -> None:
    code, output = checkout.run("run", "dance")
    assert (code, output.count("\n")) == (2, 1)


def test_killing_the_runner_ends_its_services_and_keeps_their_data(checkout: Checkout) -> None:
    checkout.write("bench/__main__.py", BENCH)
    runner = checkout.start("-m", "tools.stack", "bench", "stay")
    assert runner.stdout is not None
    pids = [int(pid) for pid in runner.stdout.readline().split()[1:]]
    assert len(pids) == 3
    assert runner.stdout.readline() == "runs 1 fsync on\n"

    code, output = checkout.run("-m", "tools.stack", "bench")
    assert (code, output) == (1, "run: A benchmark is already running in this checkout.\n")

    runner.send_signal(signal.SIGKILL)
    runner.wait()
    code, output = checkout.run("-m", "tools.stack", "bench")  # at once, while the old server may still be stopping
    assert code == 0
    assert "runs 2 fsync on\n" in output
    assert eventually(lambda: not any(map(is_running, pids)))


def test_the_data_of_a_test_run_is_removed(checkout: Checkout) -> None:
    checkout.write("test_nothing.py", "import os\n\ndef test_nothing():\n    print(os.environ['DATABASE_URL'])\n")
    code, output = checkout.run("-m", "tools.stack", "test", "-q", "-s", "-p", "no:django", "-p", "no:valkey")
    assert code == 0, output
    sockets = Path(output.partition("?host=")[2].splitlines()[0])
    assert sockets.is_absolute()
    assert not sockets.exists()
    assert not list((checkout.root / ".local").glob("pg*"))
    assert not list((checkout.root / ".local" / "leases").glob("test-*"))
