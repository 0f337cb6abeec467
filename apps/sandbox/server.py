"""One provider process: its TLS ports, its control port, and its life."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from apps.sandbox.apns import Apns, ApnsPort
from apps.sandbox.authority import Authority, ensure_authority, server_context
from apps.sandbox.control import Control, Controlled
from apps.sandbox.esp import Esp, EspSettings
from apps.sandbox.fcm import TOKEN_PATH, Fcm
from apps.sandbox.gateway_server import GATEWAYS, open_gateway
from apps.sandbox.http1 import Http1Connection
from apps.sandbox.journal import Journal
from apps.sandbox.protocol import Http2Connection
from apps.sandbox.provider import Settings
from apps.sandbox.smtp import MailSettings, Relay, StrictConnection
from apps.sandbox.smtp_fast import FastConnection

LOOPBACK = "127.0.0.1"


@dataclass
class Options:
    """What the command line asks for. Port 0: a free one; None: that port is not opened."""

    provider: str
    ca_dir: Path
    host: str = LOOPBACK
    port: int = 0
    control_port: int = 0
    environment: str = "production"
    sandbox_port: int | None = None
    names: tuple[str, ...] = ()
    journal_size: int = 200_000
    keys_file: Path | None = None
    seed: int = 0
    exit_with_parent: bool = False
    tls_port: int = 0  # smtp: TLS from the first byte
    is_fast: bool = False  # smtp: count, and keep nothing
    settings: Settings = field(default_factory=Settings)


async def serve(options: Options) -> None:
    """Run until SIGTERM or SIGINT, or the end of standard input with `exit_with_parent`.

    Prints one line of JSON on standard output once all ports are open.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, stop.set)
    if options.exit_with_parent:
        loop.add_reader(sys.stdin.fileno(), _watch_parent, stop)
    authority = await asyncio.to_thread(ensure_authority, options.ca_dir, options.names)
    journal = Journal(options.journal_size)
    servers: list[asyncio.Server] = []
    ready: dict[str, Any] = {"provider": options.provider, "pid": os.getpid(), "ca_file": str(authority.ca_file)}
    provider: Controlled
    if options.provider == "apns":
        provider = apns = Apns(options.settings, journal, seed=options.seed)
        context = server_context(authority, ["h2"])
        ports = {"port": (options.port, options.environment)}
        if options.sandbox_port is not None:
            ports["sandbox_port"] = (options.sandbox_port, "development")
        for name, (number, environment) in ports.items():
            door = ApnsPort(apns, environment)
            server = await loop.create_server(
                lambda door=door: Http2Connection(door),  # type: ignore[misc]
                options.host, number, ssl=context, backlog=512,
            )  # fmt: skip
            servers.append(server)
            ready[name] = _port_of(server)
            host = f"{'localhost' if options.host == LOOPBACK else options.host}:{ready[name]}"
            ready["url" if name == "port" else "sandbox_url"] = f"https://{host}"
    elif options.provider == "smtp":
        provider = await _open_relay(options, authority, journal, servers, ready)
    elif options.provider == "esp":
        provider = await _open_esp(options, authority, journal, servers, ready)
    elif options.provider in GATEWAYS:
        provider = await open_gateway(options, authority, journal, servers, ready)
    else:
        number = options.port or _free_port(options.host)  # the audience of assertions names it
        hosts = ("localhost", LOOPBACK, options.host, *options.names)
        audiences = frozenset(f"https://{host}:{number}{TOKEN_PATH.decode()}" for host in hosts)
        provider = fcm = Fcm(options.settings, journal, audiences=audiences, seed=options.seed)
        context = server_context(authority, ["h2", "http/1.1"])
        servers.append(
            await loop.create_server(
                lambda: Http2Connection(fcm, lambda: Http1Connection(fcm)),
                options.host,
                number,
                ssl=context,
                backlog=512,
            )
        )
        ready["port"] = number
        ready["url"] = f"https://{'localhost' if options.host == LOOPBACK else options.host}:{number}"
        ready["token_url"] = ready["url"] + TOKEN_PATH.decode()
    if options.keys_file is not None:
        for key in orjson.loads(options.keys_file.read_bytes()):
            provider.register(key)
    control = Control(provider)
    control_server = await loop.create_server(lambda: Http1Connection(control), LOOPBACK, options.control_port)
    servers.append(control_server)
    ready["control_port"] = _port_of(control_server)
    ready["control_url"] = f"http://{LOOPBACK}:{ready['control_port']}"
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # h2 makes many short-lived objects; the default would walk them all the time
    print(orjson.dumps(ready).decode(), flush=True)
    await stop.wait()
    for server in servers:
        server.close()
    for connection in list(provider.connections.values()):
        with contextlib.suppress(OSError):
            connection.abort()


async def _open_relay(
    options: Options, authority: Authority, journal: Journal, servers: list[asyncio.Server], ready: dict[str, Any]
) -> Relay:
    """The mail relay's two ports: one that begins in clear and takes STARTTLS, one with TLS from the first byte."""
    assert isinstance(options.settings, MailSettings)
    loop = asyncio.get_running_loop()
    context = server_context(authority, [])
    connection = FastConnection if options.is_fast else StrictConnection
    relay = Relay(options.settings, journal, tls=context, connection=connection, seed=options.seed)
    for name, number, is_tls in (("port", options.port, False), ("tls_port", options.tls_port, True)):
        server = await loop.create_server(
            lambda is_tls=is_tls: relay.session(is_tls=is_tls),
            options.host, number, ssl=context if is_tls else None, backlog=512,
        )  # fmt: skip
        servers.append(server)
        ready[name] = _port_of(server)
        host = "localhost" if options.host == LOOPBACK else options.host
        ready["tls_url" if is_tls else "url"] = f"{'smtps' if is_tls else 'smtp'}://{host}:{ready[name]}"
    return relay


async def _open_esp(
    options: Options, authority: Authority, journal: Journal, servers: list[asyncio.Server], ready: dict[str, Any]
) -> Esp:
    assert isinstance(options.settings, EspSettings)
    esp = Esp(options.settings, journal, seed=options.seed)
    server = await asyncio.get_running_loop().create_server(
        lambda: Http1Connection(esp),
        options.host,
        options.port,
        ssl=server_context(authority, ["http/1.1"]),
        backlog=512,
    )
    servers.append(server)
    ready["port"] = _port_of(server)
    ready["url"] = esp.url = f"https://{'localhost' if options.host == LOOPBACK else options.host}:{ready['port']}"
    esp.ca_file = str(authority.ca_file)
    return esp


def _port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _watch_parent(stop: asyncio.Event) -> None:
    """Standard input is a pipe from the parent: its end means that the parent has gone, however it ended."""
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()
