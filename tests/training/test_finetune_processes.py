"""Processes that fine-tune together: what they learn is what one would have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.test_processes import train_processes
from w2v_edge import data
from w2v_edge.model import load_checkpoint


def test_two_processes_learn_what_one_does(initial: Callable[..., Path], tmp_path: Path) -> None:
    """Losses, errors and weights; the batches are not even, and one process has none of some."""
    init = initial("large-small")
    rows = (data.FOLDER / "clips.tsv").read_text("utf-8").splitlines()[1:]
    lines = [f"{data.FOLDER}/{row}" for row in rows]
    for name, chosen in (("train.tsv", lines[1:]), ("valid.tsv", lines[:1])):
        (tmp_path / name).write_text("\n".join(["path\tsamples\ttext", *chosen]) + "\n", "utf-8")
    logs = [
        train_processes(
            n,
            tmp_path / str(n),
            init,
            2,
            sources=str(tmp_path / "train.tsv"),
            program="tests.training.finetune_ddp",
        )
        for n in (1, 2)
    ]
    assert len(logs[0]) == len(logs[1]) >= 5
    for one, two in zip(*logs, strict=True):
        one.pop("seconds_per_second", 0), two.pop("seconds_per_second", 0)
        assert two == pytest.approx(one, abs=1e-5, rel=1e-5)
    models = [load_checkpoint(tmp_path / str(n) / "model.pt").state_dict() for n in (1, 2)]
    for key, tensor in models[0].items():
        torch.testing.assert_close(models[1][key], tensor, atol=1e-5, rtol=1e-5, msg=key)
