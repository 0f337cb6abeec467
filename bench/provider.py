"""A provider that takes more than the engine can give: APNs or FCM answers over real TLS and HTTP/2, and nothing else.

`python -m bench.provider apns|fcm --ca-dir DIR …` prints one JSON line when it listens. It reads frames, not headers:
a request is complete with its DATA frame, and the answer is accepted or, for a share of them, refused as unregistered.
The strict stand-ins of `apps.sandbox` check requests; this one only has to be fast (about a tenth of their CPU) so that
it is not what is measured. When a message came whose text holds a mark (`MARK`) it notes for `bench.latency`. Clients
of `bench.peers` that know an answer by its `apns-id` get it with `--echo-ids`, and those that speak HTTP/1.1 only are
served in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import ssl
import struct
import time
from collections import defaultdict
from pathlib import Path

from hpack import Decoder

from apps.sandbox.authority import ensure_authority, server_context

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
FRAME_HEAD = struct.Struct(">IBI").unpack_from
"""Length and kind in one number, flags, stream."""
MARK = b"bench-mark-"
MARKS = re.compile(re.escape(MARK) + rb"[0-9a-f]{16}")
"""In the text of a message: it is asked later when it came. To look for it takes a few µs for a hundred messages."""
BUCKET_S = 0.002
"""Answers that are due within the same bucket are written together."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def status(code: int) -> bytes:
    """HPACK: 200 is an entry of the static table, others a literal under the name of entry 8 (`:status`)."""
    return b"\x88" if code == 200 else b"\x08\x03" + str(code).encode()


class Answers:
    """The bytes of an accepted and of a refused answer, by provider; the stream id is put in for each."""

    def __init__(self, provider: str) -> None:
        gone: dict[str, object]
        if provider == "apns":
            accepted, code, gone = b"", 410, {"reason": "Unregistered", "timestamp": int(time.time() * 1000)}
        else:
            accepted, code = b'{"name":"projects/bench/messages/0:1700000000000000"}', 404
            detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "UNREGISTERED"}
            gone = {"error": {"code": 404, "message": "gone", "status": "NOT_FOUND", "details": [detail]}}
        self.accepted = self._parts(200, accepted)
        self.refused = self._parts(code, json.dumps(gone).encode())

    @staticmethod
    def _parts(code: int, body: bytes) -> tuple[bytes, bytes, bytes]:
        """Head of the HEADERS frame, what stands between the two stream ids, and the end."""
        head = frame(HEADERS, END_HEADERS | (0 if body else END_STREAM), 0, status(code))
        if not body:
            return head[:5], head[9:], b""
        data = frame(DATA, END_STREAM, 0, body)
        return head[:5], head[9:] + data[:5], data[9:]

    @staticmethod
    def encode(parts: tuple[bytes, bytes, bytes], stream: int) -> bytes:
        key = stream.to_bytes(4)
        return parts[0] + key + parts[1] + (key + parts[2] if parts[2] else b"")


def echoing(request_headers: bytes, decoder: Decoder) -> bytes:
    """The header block of an accepted answer with the request's `apns-id`, as the real APNs gives it."""
    (value,) = [value for name, value in decoder.decode(request_headers, raw=True) if name == b"apns-id"]
    return status(200) + b"\x00\x07apns-id" + bytes([len(value)]) + value


class Tally:
    accepted = 0
    refused = 0
    connections = 0

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}
        """When each mark came, by the system's monotonic clock."""

    def note_marks(self, data: bytes) -> None:
        now = time.monotonic()
        for mark in MARKS.findall(data):
            self.seen.setdefault(mark.decode(), now)


class Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, options: argparse.Namespace, answers: Answers, tally: Tally) -> None:
        self.options, self.answers, self.tally = options, answers, tally
        self.buffer = b""
        self.greeted = False
        self.decoder = Decoder() if options.echo_ids and options.provider == "apns" else None
        self.echoes: dict[int, bytes] = {}
        self.later: dict[int, list[bytes]] = defaultdict(list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.tally.connections += 1
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1":
            transport.set_protocol(Http1(transport, self.answers, self.tally))
            return
        settings = struct.pack(">HIHI", 3, self.options.streams, 4, 2**24)
        transport.write(frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**30)))

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data
        if MARK in data:
            self.tally.note_marks(data)
        at = 0
        if not self.greeted:
            if len(data) < len(PREFACE):
                self.buffer = data
                return
            self.greeted, at = True, len(PREFACE)
        out: list[bytes] = []
        done: list[int] = []
        taken = 0
        end = len(data)
        while at + 9 <= end:
            length_and_kind, flags, stream = FRAME_HEAD(data, at)
            length, kind = length_and_kind >> 8, length_and_kind & 0xFF
            if at + 9 + length > end:
                break
            if kind == DATA:
                taken += length
                if flags & END_STREAM:
                    done.append(stream)
            elif kind == HEADERS and self.decoder:
                self.echoes[stream] = echoing(data[at + 9 : at + 9 + length], self.decoder)
            elif kind == SETTINGS and not flags & ACK:
                out.append(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                out.append(frame(PING, ACK, 0, data[at + 9 : at + 17]))
            at += 9 + length
        self.buffer = data[at:]
        if taken:
            out.append(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", taken)))
        self._answer(done, out)
        if out:
            self.transport.write(b"".join(out))

    def _answer(self, streams: list[int], out: list[bytes]) -> None:
        if self.decoder:
            self.tally.accepted += len(streams)
            out += [frame(HEADERS, END_HEADERS | END_STREAM, stream, self.echoes.pop(stream)) for stream in streams]
            return
        share, latency_s = self.options.refuse_share, self.options.latency_ms / 1000
        if not share and not latency_s:
            self.tally.accepted += len(streams)
            before, between, after = self.answers.accepted
            for stream in streams:
                key = stream.to_bytes(4)
                out.append(before + key + between + key + after if after else before + key + between)
            return
        for stream in streams:
            refused = share and random.random() < share
            if refused:
                self.tally.refused += 1
            else:
                self.tally.accepted += 1
            answer = Answers.encode(self.answers.refused if refused else self.answers.accepted, stream)
            if latency_s:
                jitter_s = random.uniform(-1, 1) * self.options.jitter_ms / 1000
                self._write_later(max(0.0, latency_s + jitter_s), answer)
            else:
                out.append(answer)

    def _write_later(self, delay_s: float, answer: bytes) -> None:
        loop = asyncio.get_running_loop()
        bucket = int((loop.time() + delay_s) / BUCKET_S) + 1
        if bucket not in self.later:
            loop.call_at(bucket * BUCKET_S, self._flush, bucket)
        self.later[bucket].append(answer)

    def _flush(self, bucket: int) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"".join(self.later.pop(bucket)))


class Http1(asyncio.Protocol):
    """One connection of a client that asked for HTTP/1.1: accepted at once, one request after the other."""

    CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

    def __init__(self, transport: asyncio.Transport, answers: Answers, tally: Tally) -> None:
        self.transport, self.tally = transport, tally
        body = answers.accepted[2]
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (head := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = self.CONTENT_LENGTH.search(self.buffer, 0, head)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < end:
                return
            self.buffer = self.buffer[end:]
            self.tally.accepted += 1
            self.transport.write(self.answer)


async def serve(options: argparse.Namespace) -> None:
    tally, answers = Tally(), Answers(options.provider)
    context: ssl.SSLContext = server_context(ensure_authority(Path(options.ca_dir)), alpn=["h2", "http/1.1"])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Peer(options, answers, tally), "127.0.0.1", options.port, ssl=context, backlog=512
    )
    control = await asyncio.start_server(lambda r, w: tell(tally, w), "127.0.0.1", options.stats_port)
    port = server.sockets[0].getsockname()[1]
    ready = {"url": f"https://localhost:{port}", "stats_port": control.sockets[0].getsockname()[1]}
    print(json.dumps(ready), flush=True)
    await server.serve_forever()


async def tell(tally: Tally, writer: asyncio.StreamWriter) -> None:
    """The counts so far, to whoever connects, and in a second line when each mark came."""
    counts = {"accepted": tally.accepted, "refused": tally.refused, "connections": tally.connections}
    writer.write(json.dumps(counts).encode() + b"\n" + json.dumps(tally.seen).encode() + b"\n")
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("provider", choices=["apns", "fcm"])
    parser.add_argument("--ca-dir", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--stats-port", type=int, default=0)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--refuse-share", type=float, default=0.0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--echo-ids", action="store_true", help="accepted answers of apns bear the request's apns-id")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
