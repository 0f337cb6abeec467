"""Opens the TLS port of a gateway's stand-in: HTTP/1.1 with keep-alive, as the real ones are sure to speak."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from apps.sandbox.authority import Authority, server_context
from apps.sandbox.gateway import Gateway
from apps.sandbox.http1 import Http1Connection
from apps.sandbox.journal import Journal
from apps.sandbox.nhn import Nhn
from apps.sandbox.solapi import Solapi
from apps.sandbox.twilio import Twilio
from apps.sandbox.webhooks import GatewaySettings

if TYPE_CHECKING:
    from apps.sandbox.server import Options

GATEWAYS: dict[str, type[Gateway]] = {"solapi": Solapi, "twilio": Twilio, "nhn": Nhn}


async def open_gateway(
    options: Options, authority: Authority, journal: Journal, servers: list[asyncio.Server], ready: dict[str, Any]
) -> Gateway:
    """Start listening; adds the server to `servers`, and port and address to `ready`."""
    assert isinstance(options.settings, GatewaySettings)
    gateway = GATEWAYS[options.provider](options.settings, journal, seed=options.seed, ca_file=authority.ca_file)
    server = await asyncio.get_running_loop().create_server(
        lambda: Http1Connection(gateway),
        options.host,
        options.port,
        ssl=server_context(authority, ["http/1.1"]),
        backlog=512,
    )
    servers.append(server)
    ready["port"] = server.sockets[0].getsockname()[1]
    ready["url"] = f"https://{'localhost' if options.host == '127.0.0.1' else options.host}:{ready['port']}"
    return gateway
