"""What does a failing system call mean to the person: which code and which hint, before and after the commit?"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import AfterCommitFailed, InstallFailed, ProvisionError, TargetUnusable

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM}
_CANNOT_MOVE = {errno.EXDEV, errno.EBUSY, errno.EINVAL, errno.ENOSYS}


def explain(error: OSError, doing: str) -> ProvisionError:
    """What a failing system call before the commit means."""
    text = f"{doing}: {error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
    if error.errno in _NO_SPACE:
        return InstallFailed(text, code="no-space", hint="free some space there, then run it again")
    if error.errno == errno.EROFS:
        return TargetUnusable(text, code="read-only", hint="give another environment with --env")
    if error.errno in _CANNOT_MOVE:
        return TargetUnusable(text, code="cannot-be-moved", hint="give another environment with --env")
    if error.errno in _NOT_ALLOWED:
        return InstallFailed(text, code="permission", hint="make the folder your own: sudo chown -R $USER FOLDER")
    return InstallFailed(text, code="disk", hint="the environment is as it was; look at the disk (dmesg), then again")


def after_commit(error: OSError) -> AfterCommitFailed:
    """What a failing system call after the commit means: the new environment is there."""
    return AfterCommitFailed(
        f"the new environment is in place, but then: {error.strerror or error}"
        + (f" ({error.filename})" if error.filename else ""),
        hint="any next provision command finishes what is left; provision rollback goes back",
    )


@contextmanager
def honest(doing: str) -> Iterator[None]:
    """OSError before the commit, told as what it means."""
    try:
        yield
    except OSError as error:
        raise explain(error, doing) from error


@contextmanager
def honest_after() -> Iterator[None]:
    """OSError after the commit."""
    try:
        yield
    except OSError as error:
        raise after_commit(error) from error
