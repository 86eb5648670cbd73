"""Runs verbs as a user does, in this process."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest


@dataclass(frozen=True)
class Outcome:
    """Exit code, stdout and stderr of one call."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The result of a call with `--json`."""
        return json.loads(self.out)


class Runner(Protocol):
    """Runs `w2v-edge` with arguments."""

    def __call__(self, *arguments: str | Path) -> Outcome: ...


@pytest.fixture
def w2v_edge(capfd: pytest.CaptureFixture[str]) -> Runner:
    """`w2v_edge(*arguments)`: run the command line and return code, stdout and stderr."""
    from w2v_edge.cli.group import run

    def call(*arguments: str | Path) -> Outcome:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def refused() -> Any:
    """`refused(outcome, code, *words)`: stderr ends in one error line, after stages at most."""

    def check(outcome: Outcome, code: int, *words: str) -> None:
        assert outcome.code == code, outcome
        *stages, line = outcome.err.strip().splitlines()
        assert all(re.fullmatch(r"[a-z]+: .* \([0-9.]+ s\)", x) for x in stages), outcome.err
        assert line.startswith("error: ")
        assert "Traceback" not in outcome.err
        assert "internal error" not in outcome.err
        for word in words:
            assert word in line, line

    return check
