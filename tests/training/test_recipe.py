"""Recipes: the learning rate schedule, defaults, and invalid values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_edge.errors import ConfigError
from w2v_edge.training.recipe import Recipe, finetuning_recipe, pretraining_recipe

if TYPE_CHECKING:
    from w2v_edge.training.loop import Trained


@settings(deadline=None)
@given(
    updates=st.integers(1, 400),
    warm_up=st.floats(0, 0.49),
    hold=st.floats(0, 0.5),
)
def test_the_rate_rises_stays_and_falls(updates: int, warm_up: float, hold: float) -> None:
    """The learning rate never rises again after it has fallen, and ends at 0."""
    recipe = Recipe(updates, batch_seconds=40.0, learning_rate=2.0, warm_up=warm_up, hold=hold)
    rates = [recipe.rate(update) for update in range(updates)]
    highest = rates.index(max(rates))
    assert max(rates) == recipe.learning_rate
    assert rates[: highest + 1] == sorted(rates[: highest + 1])
    assert rates[highest:] == sorted(rates[highest:], reverse=True)
    assert all(rate > 0 for rate in rates)
    assert recipe.rate(updates) == 0
    assert rates.count(2.0) >= hold * updates - 1


def test_fine_tuning_has_three_stages() -> None:
    """The rate rises for 10% of the updates, stays for 40% and falls for the rest."""
    recipe = finetuning_recipe(768)
    at = [recipe.rate(round(x * recipe.updates)) / recipe.learning_rate for x in (0.05, 0.3, 0.75)]
    assert at == pytest.approx([0.5, 1.0, 0.5], abs=1e-3)


@pytest.mark.parametrize("name", ["tutorial", "tiny", "base", "large"])
def test_each_preset_has_a_recipe(name: str) -> None:
    """Its learning rate is finite at every stage."""
    recipe = pretraining_recipe(name)
    assert all(math.isfinite(recipe.rate(x)) for x in (0, 1, recipe.updates // 2, recipe.updates))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"updates": 0}, "^found "),
        ({"validation_fraction": 1.0}, "^found "),
        ({"crop_seconds": 999.0}, "^found .*raise --batch-seconds"),
        ({"warm_up": 0.6, "hold": 0.4}, r"warm_up 0\.6 and hold 0\.4"),
    ],
)
def test_an_invalid_recipe_is_refused(wrong: dict[str, float], message: str) -> None:
    """Values must be in range and fit together."""
    fields = {"updates": 10, "batch_seconds": 20.0, "learning_rate": 1e-3}
    with pytest.raises(ConfigError, match=message):
        Recipe(**(fields | wrong))  # type: ignore[arg-type]


def test_a_run_of_an_older_release_resumes(
    pretrain: Callable[..., Trained], tmp_path: Path
) -> None:
    """`hold` is 0 where run.json lacks it."""
    pretrain("run", updates=1)
    path = tmp_path / "run/run.json"
    described = json.loads(path.read_text())
    assert described["recipe"].pop("hold") == 0
    path.write_text(json.dumps(described))
    assert pretrain("run", updates=2, resume=True).update == 2
