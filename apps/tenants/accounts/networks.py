"""From where the console may be used: by the whole platform (`CONSOLE_NETWORKS`) and by each application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any


def is_within(address: str, networks: Sequence[str]) -> bool:
    """Whether an address is in one of the networks. No networks: everywhere. What is no address is in none."""
    if not networks:
        return True
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in ip_network(network, strict=False) for network in networks)


def networks_of(settings: Mapping[str, Any]) -> list[str]:
    """From where an application may be managed, by its settings; empty: from everywhere."""
    networks = settings.get("console_networks")
    return list(networks) if isinstance(networks, list) else []
