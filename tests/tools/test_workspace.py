"""Private folders, stored secrets and leases."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.tools.conftest import Checkout
from tools.supervisor import StackError
from tools.workspace import private_dir, stored_secrets


def test_a_private_folder_is_ours_alone(tmp_path: Path) -> None:
    folder = private_dir(tmp_path / "new")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert private_dir(folder) == folder


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(StackError, match="not a private folder"):
        private_dir(tmp_path / "open")


def test_a_link_in_place_of_a_private_folder_is_refused(tmp_path: Path) -> None:
    private_dir(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StackError, match="not a private folder"):
        private_dir(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of somebody else")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(private_dir(tmp_path / "theirs"), 65_534, 65_534)
    with pytest.raises(StackError, match="not a private folder"):
        private_dir(tmp_path / "theirs")


def test_secrets_are_made_once_and_readable_by_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "stack" / "secrets.json"
    made = stored_secrets(path)
    assert stored_secrets(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_damaged_secrets_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(StackError, match="damaged"):
        stored_secrets(tmp_path / "secrets.json")


def test_a_lease_has_one_holder_and_ends_with_its_process(checkout: Checkout) -> None:
    hold = "import os, sys; from tools.workspace import Lease; lease = Lease.try_acquire('demo'); "
    holder = checkout.start("-c", hold + "print(bool(lease), flush=True); import time; time.sleep(600)")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert checkout.run("-c", hold + "print(bool(lease))") == (0, "False\n")
    holder.kill()
    holder.wait()
    assert checkout.run("-c", hold + "print(bool(lease))") == (0, "True\n")
