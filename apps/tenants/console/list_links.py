"""Buttons above a list, such as "Export": an app adds one to another app's list, which knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django.db.models import Model
from django.http import HttpRequest


class ListLink(NamedTuple):
    label: Any
    icon: str
    address: str


LinkMaker = Callable[[HttpRequest], ListLink | None]
_makers: dict[type[Model], list[LinkMaker]] = {}


def list_link_for(model: type[Model]) -> Callable[[LinkMaker], LinkMaker]:
    """Register a function that makes a button for the list of `model`, or None for no button.

    It answers for the rights itself; the request has the filters that are in use.
    """

    def register(maker: LinkMaker) -> LinkMaker:
        _makers.setdefault(model, []).append(maker)
        return maker

    return register


def registered_links(request: HttpRequest, model: type[Model]) -> list[ListLink]:
    made = (maker(request) for maker in _makers.get(model, ()))
    return [link for link in made if link is not None]
