"""One platform for all faults of the run; a fault that broke it for good gets the next one a new one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.ordeal import Report, undergo
from tests.faults.stack import QUICK, Stack

log = logging.getLogger(__name__)


class Platforms:
    """The present platform, started on first use."""

    def __init__(self) -> None:
        self._stack: Stack | None = None

    def stack(self) -> Stack:
        if self._stack is None:
            self._stack = Stack(QUICK).__enter__()
        return self._stack

    def end(self) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.__exit__(None, None, None)


@pytest.fixture(scope="package")
def platforms() -> Iterator[Platforms]:
    platforms = Platforms()
    yield platforms
    platforms.end()


@pytest.fixture
def survives(platforms: Platforms) -> Callable[[str], Report]:
    """Let a fault of the catalogue strike, and judge what is left (`verify`)."""

    def strike(name: str) -> Report:
        try:
            report = undergo(platforms.stack(), name, FAULTS[name].quick())
        except BaseException:
            platforms.end()
            raise
        log.warning("%s: %.1f s until the last result; %s", name, report.recovery_s, report.notes)
        return report

    return strike
