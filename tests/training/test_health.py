"""Training health: non-finite losses, codebook collapse, and the logged metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from w2v_edge.errors import TrainingError
from w2v_edge.model import load_checkpoint, save_checkpoint
from w2v_edge.model.quantizer import GumbelVectorQuantizer
from w2v_edge.training import metrics
from w2v_edge.training.metrics import PATIENCE, CollapseAlarm, MetricsLog, read_log
from w2v_edge.training.recipe import Callbacks

if TYPE_CHECKING:
    from w2v_edge.training.loop import Trained


def test_a_non_finite_loss_ends_the_run_before_a_save(
    pretrain: Callable[..., Trained], tmp_path: Path
) -> None:
    """The last checkpoint stays intact."""
    with pytest.raises(TrainingError, match=r"is (nan|inf) at update .* learning rate") as refused:
        pretrain("run", updates=30, learning_rate=1e30, clip_norm=1e30, warm_up=0.0)
    assert "\n" not in str(refused.value)
    for tensor in load_checkpoint(tmp_path / "run" / "model.pt").state_dict().values():
        assert tensor.isfinite().all()


def test_codebook_collapse_is_reported_once() -> None:
    """The warning comes after `PATIENCE` updates, and again only after a recovery."""
    alarm = CollapseAlarm()
    good, bad = {"a": 30.0, "b": 9.0}, {"a": 30.0, "b": 1.01}
    assert not alarm.watch(good, 500)
    assert not alarm.watch(bad, PATIENCE - 1)
    assert "b has been below" in alarm.watch(bad, 1)
    assert not alarm.watch(bad, 500)
    assert not alarm.watch(good)
    assert not alarm.watch(bad, PATIENCE - 1)
    assert alarm.watch(bad)


def test_collapse_is_seen_in_training(
    pretrain: Callable[..., Trained],
    initial: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model with constant codes causes a warning; the run goes on."""
    monkeypatch.setattr(metrics, "PATIENCE", 2)

    start = initial("large-small")
    model = load_checkpoint(start)
    assert isinstance(model.quantizer, GumbelVectorQuantizer)
    with torch.no_grad():
        model.quantizer.scorer.bias[:: model.quantizer.config.entries] += 1e6
    save_checkpoint(model, start)
    heard: list[str] = []
    listener = Callbacks(warn=heard.append)
    trained = pretrain(
        "run",
        init=start,
        updates=4,
        batch_seconds=3.0,
        crop_seconds=1.0,
        every=99,
        callbacks=listener,
    )
    assert len(heard) == 1
    assert "codebook collapse" in heard[0]
    assert trained.warnings == tuple(heard)


def test_metrics_are_in_the_log_and_in_tensorboard(
    pretrain: Callable[..., Trained], tmp_path: Path
) -> None:
    """Both have each loss, accuracy, perplexity, gradient norm, temperature and speed."""
    pretrain("run", updates=3, validation_fraction=0.4)
    wanted = set(
        "loss contrastive diversity feature_penalty accuracy gradient_norm temperature "
        "learning_rate seconds_per_second perplexity/group_0 perplexity/group_1".split()
    )
    lines = read_log(tmp_path / "run" / "log.jsonl")
    assert wanted <= set(lines[0])
    assert any("validation/accuracy" in line for line in lines)
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    assert wanted <= set(board.Tags()["scalars"])
    assert [x.step for x in board.Scalars("loss")] == [1, 2, 3]


def test_a_resumed_log_drops_updates_after_the_last_save(tmp_path: Path) -> None:
    """An incomplete last line is skipped."""
    log = tmp_path / "log.jsonl"
    log.write_text('{"update": 1, "loss": 3.0}\n{"update": 3, "loss": 2.0}\n{"update": 4, "lo')
    with MetricsLog(log, tmp_path / "board", update=2) as tracker:
        tracker.write(3, {"loss": 2.5})
    assert [(x["update"], x["loss"]) for x in read_log(log)] == [(1, 3.0), (3, 2.5)]
