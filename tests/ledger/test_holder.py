"""Whether a process lives, and what is not known of it: nobody takes the lease of one that may."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ledger import holder
from ledger.holder import Holder, lives


def test_a_process_lives_until_it_has_ended_and_no_other_is_taken_for_it() -> None:
    me = Holder.me()
    assert lives(me.pid, me.born)
    assert not lives(me.pid, "earlier")
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert not lives(child.pid)
    assert not lives(2**70)


def test_a_process_of_which_nothing_can_be_seen_is_not_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another user's, where /proc hides those; any, where no more files can be opened."""
    other = replace(Holder.me(), pid=os.getppid(), born="1")
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "stat").touch()
    monkeypatch.setattr(holder, "_PROC", tmp_path)
    assert not other.gone


def test_a_process_that_cannot_tell_its_namespace_knows_no_others_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two containers of one machine may share their name, and each has a process 7."""

    def refused(_: object) -> str:
        raise PermissionError

    monkeypatch.setattr(os, "readlink", refused)
    assert holder._host.__wrapped__() != holder._host.__wrapped__()


def test_a_process_of_another_namespace_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = holder._host.__wrapped__()
    monkeypatch.setattr(os, "readlink", lambda _: "pid:[4026599999]")
    assert holder._host.__wrapped__() != ours
    assert not replace(Holder.me(), host=holder._host.__wrapped__(), born="1").gone
