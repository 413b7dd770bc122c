"""Where can a change be hit? Every step has a name, and a test can end or fail the process exactly there.

`PROVISION_FAULT=STEP:kill` ends the process at STEP as `kill -9` would; `STEP:error` makes it fail with EIO, and
`STEP:ENOSPC` (any errno name) with that. Several faults are separated by commas.
"""

from __future__ import annotations

import os

VARIABLE = "PROVISION_FAULT"

STEPS = (
    "locked",  # the lock is held, nothing else has happened
    "probed",  # the tier is known
    "clone",  # an empty staging folder exists
    "clone-file",  # the first file has been linked or copied
    "cloned",  # the copy is complete
    "run",  # before the changing command
    "ran",  # after it
    "put",  # before a small file of our own is written
    "settle",  # before anything is put right
    "settle-script",  # a script with the staging path was found, not yet rewritten
    "settle-record",  # before a RECORD is rewritten
    "audit",  # before the copy is checked
    "audited",  # the copy is known to be good
    "seal",  # before the copy is sealed
    "flush",  # before everything is flushed to the disk
    "flushed",  # after it
    "drift",  # before the live tree is compared with what was copied
    "describe",  # before the description of the leaving tree is written
    "intent",  # before the intent is written
    "intended",  # the intent is on disk: the commit comes next
    "swap-half",  # between two renames, where one exchange is not possible
    "swapped",  # the commit has happened
    "parents-synced",  # and is durable
    "retire",  # before the old tree gets its name among the generations
    "retired",  # the old tree has its name
    "state",  # before `state.json` says what is live
    "finish",  # before the intent is removed
    "finished",  # the intent is gone
    "collect",  # before generations beyond the limit go
    "trash",  # a tree lies in the trash, not yet deleted
)


def step(name: str) -> None:
    """Say that the work has come to `name`; does nothing unless a test asked for a fault here."""
    asked = os.environ.get(VARIABLE)
    if asked:
        _strike(name, asked)


def _strike(name: str, asked: str) -> None:
    import errno
    import signal

    for fault in asked.split(","):
        where, _, how = fault.partition(":")
        if where != name:
            continue
        if how == "kill":
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        number = errno.EIO if how == "error" else getattr(errno, how)
        raise OSError(number, f"{os.strerror(number)} (asked for by {VARIABLE})", name)
