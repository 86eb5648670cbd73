"""Short runs of training: the package's clips, and the smallest models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from w2v_edge.model import ModelConfig
    from w2v_edge.training.finetune import Finetuned
    from w2v_edge.training.loop import Trained

QUICK = {
    "updates": 4,
    "batch_seconds": 8.0,
    "crop_seconds": 2.0,
    "min_seconds": 0.3,
    "validation_fraction": 0.0,
    "learning_rate": 1e-3,
}


@pytest.fixture
def initial(small_config: Callable[[str], ModelConfig], tmp_path: Path) -> Callable[..., Path]:
    """`initial(name, **context)`: a checkpoint of a small model; `context` changes its config."""
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
    """`pretrain(output, **overrides)`: a run of a few updates on the package's clips."""
    from w2v_edge import data
    from w2v_edge.training.pretrain import pretrain
    from w2v_edge.training.recipe import LoopOptions

    def run(
        output: str,
        *,
        every: int = 1,
        num_workers: int = 2,
        sources: list[Path] | None = None,
        **given: Any,
    ) -> Trained:
        names = ("init", "resume", "callbacks", "skip_bad")
        start: dict[str, Any] = {name: given.pop(name) for name in names if name in given}
        return pretrain(
            sources or [data.FOLDER],
            tmp_path / output,
            preset_name="tiny",
            overrides=QUICK | given,
            cpu=True,
            options=LoopOptions(log_every=1, save_every=every, num_workers=num_workers),
            **start,
        )

    return run


@pytest.fixture
def finetune(tmp_path: Path) -> Callable[..., Finetuned]:
    """`finetune(checkpoint, output, **overrides)`: a run of a few updates on the same clips."""
    from w2v_edge import data
    from w2v_edge.training.finetune import finetune
    from w2v_edge.training.recipe import LoopOptions

    def run(checkpoint: Path, output: str, *, every: int = 1, **given: Any) -> Finetuned:
        names = ("resume", "task_options", "valid", "new_vocabulary", "callbacks", "skip_bad")
        start = {name: given.pop(name) for name in names if name in given}
        sources = given.pop("sources", [data.FOLDER / "clips.tsv"])
        defaults = {"updates": 4, "batch_seconds": 30.0, "validation_fraction": 0.0}
        return finetune(
            checkpoint,
            sources,
            tmp_path / output,
            overrides={**defaults, **given},
            cpu=True,
            options=LoopOptions(log_every=1, save_every=every),
            **start,
        )

    return run
