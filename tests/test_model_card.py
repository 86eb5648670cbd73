"""The model card: training history and the effect of int8."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.tiny import card, history, weight_quantization
from bench.tiny.weight_quantization import Pair
from w2v_edge import data
from w2v_edge.errors import InputError

ROOT = Path(__file__).parents[1]


def test_a_history_is_the_log_in_steps(tmp_path: Path) -> None:
    """Each step is the mean of its updates; validation is as measured."""
    from w2v_edge.model import preset
    from w2v_edge.training.recipe import pretraining_recipe
    from w2v_edge.training.run_folder import Run, RunFolder

    run = Run("pretrain", preset("tiny").to_dict(), pretraining_recipe("tiny"), "0", {})
    RunFolder(tmp_path / "run").begin(run, Path.touch)
    rows: list[dict[str, float]] = [{"update": n, "loss": float(n)} for n in range(1, 251)]
    rows.insert(120, {"update": 120, "validation/loss": 7.0})
    log = tmp_path / "run/log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = history.history(tmp_path / "run")
    assert history.column(found, "training", "loss") == ([100, 200, 250], [50.5, 150.5, 225.5])
    assert history.column(found, "held_out", "validation/loss") == ([120], [7.0])
    assert found["recipe"]["updates"] == pretraining_recipe("tiny").updates


def test_a_bundle_differs_from_itself_by_nothing() -> None:
    """Cosines of one, no code that changes, all layers named; float32 has nothing to compare."""
    pair = Pair("same", data.TINY_INT8, data.TINY_INT8)
    found = weight_quantization.evaluate([pair], [data.FOLDER / "clips.tsv"], 0.4)
    same = found["pairs"]["same"]
    assert same["code_drift"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    for spread in same["cosine"].values():
        assert spread == pytest.approx({"median": 1.0, "worst_decile": 1.0})
    assert len(same["layers"]) > 20


def test_weights_without_8_bits_are_refused(bundle: Callable[[str], Path]) -> None:
    """Weights without an int8 bundle are refused in one line with the option."""
    pair = Pair("none", bundle("tiny"), bundle("tiny"))
    with pytest.raises(InputError, match=r"no 8-bit weights; export with --precision int8"):
        weight_quantization.evaluate([pair], [data.FOLDER / "clips.tsv"], 0.4)


def test_the_picture_changes_only_with_the_figures(tmp_path: Path) -> None:
    """Drawing twice gives the same bytes."""
    pictures = [tmp_path / "1.svg", tmp_path / "2.svg"]
    for path in pictures:
        card.draw(ROOT / "bench/results", path)
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
