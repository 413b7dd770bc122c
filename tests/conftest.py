"""Fixtures that several rooms' tests share, and which tests run when nobody says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from envs import parts, world  # noqa: F401  (fixtures: an environment to change, see envs.World)
from index import Server, Tree, serve, standard_tree


def pytest_configure(config: pytest.Config) -> None:
    """Without -m: everything but the tests that take long, download much, or want a real GPU."""
    if not config.option.markexpr:
        config.option.markexpr = "not slow and not registry and not gpu"


@pytest.fixture(scope="session")
def index() -> Iterator[Server]:
    """The standard tree, served for the whole session. Shared: spoil it only through `failing`, read `recording`."""
    with serve(standard_tree()) as server:
        yield server


@pytest.fixture
def scene() -> Iterator[Callable[..., Server]]:
    """Servers of a test's own: `scene(behaviour={"2.15.0+cu130": "no-kernel"})`, `scene(tree)`, `links=`, `auth=`."""
    servers: list[Server] = []

    def start(tree: Tree | None = None, *, links: str = "root", auth: str | None = None, **how: Any) -> Server:
        servers.append(serve(tree or standard_tree(**how), links=links, auth=auth))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
