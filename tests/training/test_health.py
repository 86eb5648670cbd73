"""Training that has gone wrong is said, in time, with what to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from w2v_edge.errors import ConfigError, TrainingError
from w2v_edge.model import load_checkpoint
from w2v_edge.model.quantizer import GumbelVectorQuantizer
from w2v_edge.training.metrics import PATIENCE, CollapseAlarm, MetricsLog, read_log
from w2v_edge.training.recipe import Recipe, pretraining_recipe

if TYPE_CHECKING:
    from w2v_edge.training.loop import Trained


def test_a_loss_that_is_no_number_ends_it_before_it_is_saved(
    pretrain: Callable[..., Trained], tmp_path: Path
) -> None:
    """What was saved last stays, whole; the error says where that is."""
    with pytest.raises(TrainingError, match=r"is (nan|inf) at update .* learning rate") as refused:
        pretrain("run", updates=30, learning_rate=1e30, clip_norm=1e30, warm_up=0.0)
    assert "\n" not in str(refused.value)
    for tensor in load_checkpoint(tmp_path / "run" / "model.pt").state_dict().values():
        assert tensor.isfinite().all()


def test_collapsed_codes_are_said_once() -> None:
    """After some patience, and again only after they had recovered."""
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
    pretrain: Callable[..., Trained], initial: Callable[..., Path]
) -> None:
    """A model that gives one code always is warned about; its checkpoint is kept all the same."""
    from w2v_edge.model import save_checkpoint
    from w2v_edge.training.recipe import Callbacks

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
        updates=PATIENCE + 3,
        batch_seconds=3.0,
        crop_seconds=1.0,
        every=99,
        callbacks=listener,
    )
    assert len(heard) == 1
    assert "codebook collapse" in heard[0]
    assert trained.warnings == tuple(heard)


def test_figures_are_in_the_log_and_for_tensorboard(
    pretrain: Callable[..., Trained], tmp_path: Path
) -> None:
    """Each loss, accuracy, perplexity by group, gradient, temperature and speed, by update."""
    pretrain("run", updates=3, validation_fraction=0.4)
    wanted = set(
        "loss contrastive diversity feature_penalty accuracy gradient_norm temperature "
        "learning_rate seconds_per_second perplexity/group_0 perplexity/group_1".split()
    )
    lines = read_log(tmp_path / "run" / "log.jsonl")
    assert wanted <= set(lines[0])
    assert any("held_out/accuracy" in line for line in lines)
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    assert wanted <= set(board.Tags()["scalars"])
    assert [x.step for x in board.Scalars("loss")] == [1, 2, 3]


def test_a_log_forgets_what_was_not_saved(tmp_path: Path) -> None:
    """What came after the last save is logged once; half a line is passed over."""
    log = tmp_path / "log.jsonl"
    log.write_text('{"update": 1, "loss": 3.0}\n{"update": 3, "loss": 2.0}\n{"update": 4, "lo')
    with MetricsLog(log, tmp_path / "board", update=2) as tracker:
        tracker.write(3, {"loss": 2.5})
    assert [(x["update"], x["loss"]) for x in read_log(log)] == [(1, 3.0), (3, 2.5)]


def test_the_rate_rises_then_falls() -> None:
    """To its highest within the warm-up, and to nothing at the end."""
    recipe = Recipe(updates=100, batch_seconds=20.0, learning_rate=2.0, warm_up=0.1)
    rates = [recipe.rate(x) for x in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[10] == 2.0
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == 0


@pytest.mark.parametrize("name", ["tutorial", "tiny", "base", "large"])
def test_each_preset_has_a_recipe(name: str) -> None:
    """With a rate that is a number at every update."""
    recipe = pretraining_recipe(name)
    assert all(math.isfinite(recipe.rate(x)) for x in (0, 1, recipe.updates // 2, recipe.updates))


@pytest.mark.parametrize(
    "wrong", [{"updates": 0}, {"validation_fraction": 1.0}, {"crop_seconds": 999.0}]
)
def test_a_recipe_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    """In one line."""
    fields = {"updates": 10, "batch_seconds": 20.0, "learning_rate": 1e-3}
    with pytest.raises(ConfigError, match=r"^found "):
        Recipe(**(fields | wrong))  # type: ignore[arg-type]
