"""--on docker: the limits of a container, with a stand-in for docker that starts none."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.remote.conftest import ENDS_AT_ONCE

Verb = Callable[..., Any]

DOCKER = """#!/bin/sh
echo "$*" >{log}
while [ "$1" != -c ]; do shift; done
HOME={folder} TMPDIR={folder} exec sh "$@"
"""


def test_a_container(
    w2v_edge: Verb,
    refused: Any,
    python: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    locked: Callable[[str], AbstractContextManager[None]],
) -> None:
    """It has no network, its limits are docker's options, and docker's own errors are quoted."""
    log, folder, programs = (tmp_path / x for x in ("log", "folder", "programs"))
    folder.mkdir()
    programs.mkdir()
    docker = programs / "docker"
    docker.write_text(DOCKER.format(log=log, folder=folder))
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    on = (*ENDS_AT_ONCE, "--use", python, "--on", "docker:python:3.13,cpus=2,memory=512m")
    with locked("device"):
        refused(w2v_edge(*on), 1, "docker:python:3.13,cpus=2,memory=512m: found 999 threads")
    assert log.read_text().startswith("run --rm -i --network none --cpus=2 --memory=512m ")
    assert list(folder.iterdir()) == []
    docker.write_text(
        "#!/bin/sh\necho 'docker: no such image.' >&2\necho see --help >&2\nexit 125\n"
    )
    refused(w2v_edge(*on), 1, "cannot connect: docker: no such image.")
