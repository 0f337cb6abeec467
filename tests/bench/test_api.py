"""What measures the API: the load's client, the Procfile's web process, and the part as a whole, in small."""

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.load import percentile, post, write_requests
from bench.web import web_process
from tools.supervisor import ROOT

ANSWER = b'{"accepted":3}'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((body, self.headers["Authorization"], time.monotonic()))
        if body["n"] in self.server.hang_up_at:
            self.close_connection = True
            self.connection.close()
            return
        if body["n"] in self.server.slow_at:
            threading.Event().wait(0.3)
        self.send_response(200 if body["n"] % 10 else 503)
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def peer():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.got, server.hang_up_at, server.slow_at = [], set(), set()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def load(peer, folder, numbers, *arguments):
    write_requests(folder / "requests", (post("/x", json.dumps({"n": n}).encode(), key="as_sk_1") for n in numbers))
    port = ("--port", str(peer.server_address[1]))
    command = [sys.executable, "-m", "bench.load", str(folder / "requests"), *port, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_every_request_is_sent_once_and_every_answer_counted(peer, tmp_path):
    loaded = load(peer, tmp_path, range(1, 101), "--connections", "4")
    assert sorted(body["n"] for body, _, _ in peer.got) == list(range(1, 101))
    assert {key for _, key, _ in peer.got} == {"Bearer as_sk_1"}
    assert (loaded["requests"], loaded["errors"], loaded["accepted"]) == (100, 0, 300)
    assert loaded["statuses"] == {"200": 90, "503": 10}
    assert 0 < loaded["median_ms"] <= loaded["p95_ms"] <= loaded["p99_ms"] <= loaded["max_ms"]


def test_a_request_without_an_answer_is_an_error(peer, tmp_path):
    peer.hang_up_at = {7}
    loaded = load(peer, tmp_path, range(1, 41), "--connections", "4")
    assert (loaded["requests"], loaded["errors"]) == (40, 1)


def test_an_open_load_comes_by_the_clock_and_is_timed_from_when_it_was_due(peer, tmp_path):
    """One answer takes 0.3 s: the next requests are sent meanwhile, on connections of their own."""
    peer.slow_at = {5}
    loaded = load(peer, tmp_path, range(1, 41), "--connections", "1", "--rate", "100")
    assert (loaded["requests"], loaded["errors"]) == (40, 0)
    slow = next(at for body, _, at in peer.got if body["n"] == 5)
    assert sum(1 for _, _, at in peer.got if slow < at < slow + 0.3) > 5
    assert loaded["max_ms"] >= 300
    assert loaded["connections"] > 1


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 6), (0.95, 10), (1, 10)])
def test_percentiles(share, value):
    assert percentile([float(n) for n in range(1, 11)], share) == value
    assert percentile([], share) == 0


def test_the_web_process_is_the_procfiles(tmp_path):
    procfile = tmp_path / "Procfile"
    line = "env APPLICATION_NAME=web DATABASE_POOL_MAX=4 granian --host 0.0.0.0 --port ${PORT:-8000} --workers 2 a:b"
    procfile.write_text(f"release: migrate\nweb: {line}\n")
    spec = web_process(procfile, port=4321, env={"EXTRA": "1"})
    assert spec.command[1:] == ("-m", *["granian", "--host", "127.0.0.1", "--port", "4321", "--workers", "2", "a:b"])
    assert {"DATABASE_POOL_MAX": "4", "EXTRA": "1"}.items() <= spec.env.items()
    assert "granian" in web_process(ROOT / "Procfile", port=1, env={}).command


@pytest.mark.timeout(180)
def test_a_small_run_from_requests_to_figures(bench):
    result, figures = bench("api", "--recipients", "600", "--cases", "receipts")
    assert result.returncode == 0, result.stdout
    for case in ("receipts, 1 each", "receipts, 500 each"):
        assert figures[case, "rate"]["value"] > 0
        assert figures[case, "errors"]["value"] == 0
        assert figures[case, "load"]["value"] > 0
