"""Buttons of a row's page. A button calls one service; nothing happens by GET."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from django import forms

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class RowAction:
    """How a button is offered; the method that it is declared on runs it.

    The method gets (request, row, what the form has cleaned) and answers with a message, or with a whole response.
    It runs for who has `scope` in the row's application. `is_offered` only says when the button is shown: a POST in
    another state goes to the service all the same, and its refusal is shown.
    """

    name: str
    label: Any
    scope: str
    icon: str
    variant: str
    """default, primary or danger."""
    is_direct: bool
    """One click, without a page that asks again."""
    form: type[forms.Form]
    explain: Any
    facts: str
    """Name of a method (request, row) → pairs of label and value, shown before it is confirmed."""
    is_offered: Callable[[Any], bool]


def _always(row: Any) -> bool:
    return True


def row_action(
    label: Any,
    *,
    scope: str,
    icon: str = "",
    variant: str = "default",
    is_direct: bool = False,
    form: type[forms.Form] = forms.Form,
    explain: Any = "",
    facts: str = "",
    is_offered: Callable[[Any], bool] = _always,
) -> Callable[[F], F]:
    """Declare a method of an admin as the button `label`; the admin lists it in `row_actions`."""

    def declare(method: F) -> F:
        method.row_action = RowAction(  # type: ignore[attr-defined]
            method.__name__, label, scope, icon, variant, is_direct, form, explain, facts, is_offered
        )
        return method

    return declare
