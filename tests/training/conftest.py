"""Runs of training that are short: clips of the package, and the smallest model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from w2v_edge.model import ModelConfig
    from w2v_edge.training.loop import Trained
    from w2v_edge.training.start_finetune import Finetuned

QUICK = {
    "updates": 4,
    "batch_seconds": 8.0,
    "crop_seconds": 2.0,
    "least_seconds": 0.3,
    "held_out": 0.0,
    "learning_rate": 1e-3,
}


@pytest.fixture
def initial(small_config: Callable[[str], ModelConfig], tmp_path: Path) -> Callable[[str], Path]:
    """`initial(name)`: a checkpoint of a small model with dropout, and one without layer drop."""
    from w2v_edge.model import build_model, save_checkpoint
    from w2v_edge.model.config import TransformerContextConfig

    def make(name: str, **context: Any) -> Path:
        config = small_config(name)
        if context:
            assert isinstance(config.context, TransformerContextConfig)
            config = replace(config, context=replace(config.context, **context))
        path = tmp_path / f"{name}.pt"
        save_checkpoint(build_model(config, seed=5), path)
        return path

    return make


@pytest.fixture
def pretrain(tmp_path: Path) -> Callable[..., Trained]:
    """`pretrain(output, **wishes)`: a run of a few updates on the clips of the package."""
    from w2v_edge import data
    from w2v_edge.training.loop import Pace
    from w2v_edge.training.start import pretrain

    def run(
        output: str, *, every: int = 1, sources: list[Path] | None = None, **wishes: Any
    ) -> Trained:
        start: dict[str, Any] = {
            key: wishes.pop(key)
            for key in ("init", "resume", "name", "listener", "skip_bad")
            if key in wishes
        }
        return pretrain(
            sources or [data.FOLDER],
            tmp_path / output,
            wishes=QUICK | wishes,
            cpu=True,
            pace=Pace(log=1, save=every),
            **{"name": "tiny", **start},
        )

    return run


@pytest.fixture
def finetune(tmp_path: Path) -> Callable[..., Finetuned]:
    """`finetune(checkpoint, output, **wishes)`: a run of a few updates on the package's clips."""
    from w2v_edge import data
    from w2v_edge.training.loop import Pace
    from w2v_edge.training.start_finetune import finetune

    def run(checkpoint: Path, output: str, *, every: int = 1, **given: Any) -> Finetuned:
        names = ("resume", "options", "valid", "new_vocabulary", "listener", "skip_bad")
        start = {name: given.pop(name) for name in names if name in given}
        sources = given.pop("sources", [data.FOLDER / "clips.tsv"])
        return finetune(
            checkpoint,
            sources,
            tmp_path / output,
            wishes={"updates": 4, "batch_seconds": 30.0, "held_out": 0.0, **given},
            cpu=True,
            pace=Pace(log=1, save=every),
            **start,
        )

    return run
