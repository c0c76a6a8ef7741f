"""An append-only file of JSON lines that survives SIGKILL, and a lock on its folder.

A line is on disk before `append` returns (unless `durable=False`, for lines whose loss changes
nothing). A last line cut short by a crash is dropped on the next open: whoever wrote it had not
been answered yet.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Any


class FolderInUse(Exception):
    """Another live process holds this data folder."""


class FolderLock:
    """An advisory lock on a folder, freed by the kernel when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock. Raises FolderInUse when a live process has it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise FolderInUse(
                f"data folder {folder} is used by another live process (pid {holder}); "
                "stop it or choose another folder"
            ) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def close(self) -> None:
        """Free the folder. May be called twice."""
        self._file.close()


class Journal:
    """The file. One writer at a time: hold a FolderLock on its folder."""

    def __init__(self, path: Path) -> None:
        """Open or create the file, cutting off a torn last line. Read `lines` before appending."""
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        self._file.truncate(len(whole))
        self._file.seek(len(whole))

    def append(self, line: dict[str, Any], *, durable: bool = True) -> None:
        """Add one line; with `durable`, return only when it is on disk.

        Raises OSError with nothing added, so that the writer can go on after a full disk.
        """
        start = self._file.tell()
        try:
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            if durable:
                os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(start)
            self._file.seek(start)
            raise

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._file.close()
