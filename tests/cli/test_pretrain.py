"""`w2v-edge pretrain`: from recordings to a checkpoint that exports, and bad input in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from w2v_edge import data

if TYPE_CHECKING:
    from w2v_edge.model import ModelConfig

Verb = Callable[..., Any]
QUICK = (
    "--preset tiny --updates 2 --batch-seconds 8 --crop-seconds 2 --min-seconds 0.3 --cpu"
).split()


def test_a_trained_checkpoint_exports_and_verifies(
    w2v_edge: Verb,
    checkpoint: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The bundle verifies; --json prints the metrics."""
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
    monkeypatch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 1)
    run = tmp_path / "run"
    options = ["--init", checkpoint("tutorial-small"), *QUICK[2:], "--validation-fraction", "0.4"]
    outcome = w2v_edge("pretrain", data.FOLDER, *options, "-o", run, "--json")
    assert outcome.code == 0, outcome
    assert outcome.json["update"] == 2
    assert outcome.json["finished"]
    assert {"loss", "accuracy", "validation/accuracy"} <= set(outcome.json["figures"])
    assert w2v_edge("export", run / "model.pt", "-o", tmp_path / "bundle").code == 0
    assert w2v_edge("verify", tmp_path / "bundle").code == 0


def test_a_run_repeats_itself(w2v_edge: Verb, tmp_path: Path) -> None:
    """The same command gives the same weights; another seed others."""
    import torch

    made = []
    for number, seed in enumerate(("1", "1", "2")):
        output = tmp_path / str(number)
        assert w2v_edge("pretrain", data.FOLDER, *QUICK, "--seed", seed, "-o", output).code == 0
        made.append(torch.load(output / "model.pt", weights_only=True)["model"])
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert not all(torch.equal(made[0][name], made[2][name]) for name in made[0])


def test_bad_input(w2v_edge: Verb, refused: Verb, tmp_path: Path) -> None:
    """Bad input gives one line and exit code 1, and creates no folder."""
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no audio")
    table = tmp_path / "list.tsv"
    fake = tmp_path / "fake.wav"
    fake.write_text("a text in disguise")
    output = tmp_path / "run"

    def call(*arguments: object) -> Any:
        return w2v_edge("pretrain", *QUICK, "-o", output, *arguments)

    refused(call(empty), 1, "no audio found in", ".tsv")
    refused(call(tmp_path / "nowhere"), 1, "nowhere")
    refused(call(fake), 1, "fake.wav", "--skip-bad")
    table.write_text("path\ttext\nmissing.wav\thello\n")
    refused(call(table), 1, "missing.wav")
    refused(call(data.FOLDER, "--init", fake), 1, "fake.wav")
    refused(call(data.FOLDER, "--dtype", "fp16"), 1, "fp16 needs a GPU")
    refused(call(data.FOLDER, "--crop-seconds", "60"), 1, "raise --batch-seconds")
    refused(call(data.FOLDER, "--resume"), 1, "found no run to resume")
    assert call(data.FOLDER, "--init", fake, "--resume").code == 2
    assert not output.exists()
    output.write_text("a file")
    refused(call(data.FOLDER), 1, "already there")


def test_a_checkpoint_without_codes_cannot_be_pre_trained(
    w2v_edge: Verb, refused: Verb, small_config: Callable[[str], ModelConfig], tmp_path: Path
) -> None:
    """The error names the missing objective."""
    from w2v_edge.model import build_model, save_checkpoint

    config = replace(small_config("base-small"), quantizer=None, objective=None)
    save_checkpoint(build_model(config), tmp_path / "plain.pt")
    given = ["--init", tmp_path / "plain.pt", *QUICK[2:], "-o", tmp_path / "run"]
    refused(w2v_edge("pretrain", data.FOLDER, *given), 1, "without a pre-training objective")


def test_shards(w2v_edge: Verb, refused: Verb, tmp_path: Path) -> None:
    """A pattern of shards trains; together with other recordings it is refused."""
    from webdataset import TarWriter

    for number, clip in enumerate(sorted(data.FOLDER.glob("*.flac"))[:2]):
        with TarWriter(str(tmp_path / f"s-{number}.tar")) as writer:
            writer.write({"__key__": clip.stem, "flac": clip.read_bytes(), "txt": "words"})
    options = [*QUICK, "--validation-fraction", "0"]
    pattern = f"{tmp_path}/s-{{0..1}}.tar"
    output = tmp_path / "run"
    mixed = w2v_edge("pretrain", pattern, data.FOLDER, *options, "-o", output)
    refused(mixed, 1, "beside other recordings")
    assert not output.exists()
    outcome = w2v_edge("pretrain", pattern, *options, "-o", output, "--json")
    assert outcome.code == 0, outcome
    assert outcome.json["finished"]
    words = w2v_edge("pretrain", "--help").out.split()
    assert "shards of WebDataset" in " ".join(words)
