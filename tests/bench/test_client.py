"""The client that looks for a provider's ceiling is answered by the provider that the benchmarks use."""

import json
import subprocess
import sys

from tools.supervisor import ROOT


def test_each_message_of_the_ceiling_is_accepted(tmp_path):
    run = {"cwd": ROOT, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "bench.provider", "apns", "--ca-dir", str(tmp_path)]
    with subprocess.Popen(command, **run) as provider:
        try:
            url = json.loads(provider.stdout.readline())["url"]
            command = [sys.executable, "-m", "bench.client", "apns", "raw", "--messages", "40"]
            client = subprocess.run([*command, "--url", url, "--ca-file", str(tmp_path / "ca.pem")], **run)
        finally:
            provider.terminate()
    told = json.loads(client.stdout)
    assert (told["messages"], told["accepted"]) == (20, 20)
