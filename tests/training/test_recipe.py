"""The learning rate over a run: it rises, stays, and falls; what cannot be is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_edge.errors import ConfigError
from w2v_edge.training.recipe import Recipe, finetuning_recipe

if TYPE_CHECKING:
    from w2v_edge.training.loop import Trained


def _recipe(updates: int, warm_up: float, hold: float) -> Recipe:
    return Recipe(
        updates=updates, batch_seconds=40.0, learning_rate=2.0, warm_up=warm_up, hold=hold
    )


@settings(deadline=None)
@given(
    updates=st.integers(1, 400),
    warm_up=st.floats(0, 0.49),
    hold=st.floats(0, 0.5),
)
def test_the_rate_rises_stays_and_falls(updates: int, warm_up: float, hold: float) -> None:
    """Never above its highest, never back up once it has fallen, and almost 0 at the end."""
    recipe = _recipe(updates, warm_up, hold)
    rates = [recipe.rate(update) for update in range(updates)]
    highest = rates.index(max(rates))
    assert max(rates) == recipe.learning_rate
    assert rates[: highest + 1] == sorted(rates[: highest + 1])
    assert rates[highest:] == sorted(rates[highest:], reverse=True)
    assert all(rate > 0 for rate in rates)
    assert recipe.rate(updates) == 0
    assert rates.count(2.0) >= hold * updates - 1


def test_fine_tuning_has_three_stages() -> None:
    """A tenth of the updates to rise, four tenths at the highest, the rest to fall."""
    recipe = finetuning_recipe(768)
    at = [recipe.rate(round(x * recipe.updates)) / recipe.learning_rate for x in (0.05, 0.3, 0.75)]
    assert at == pytest.approx([0.5, 1.0, 0.5], abs=1e-3)


def test_stages_that_take_more_than_all_are_refused() -> None:
    """Warm-up and hold leave something to fall in."""
    with pytest.raises(ConfigError, match=r"warm_up 0\.6 and hold 0\.4"):
        _recipe(10, 0.6, 0.4)


def test_a_run_from_before_there_was_a_hold_goes_on(
    pretrain: Callable[..., Trained], tmp_path: Path
) -> None:
    """What an older run.json does not say is as it was then."""
    pretrain("run", updates=1)
    path = tmp_path / "run/run.json"
    described = json.loads(path.read_text())
    assert described["recipe"].pop("hold") == 0
    path.write_text(json.dumps(described))
    assert pretrain("run", updates=2, resume=True).update == 2
