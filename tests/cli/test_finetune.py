"""`w2v-edge finetune`: its output, vocabularies, and bad input in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from w2v_edge import data

if TYPE_CHECKING:
    from w2v_edge.model import ModelConfig

Verb = Callable[..., Any]
CLIPS = data.FOLDER / "clips.tsv"
QUICK = "--updates 2 --batch-seconds 31 --cpu".split()
SHORT = "en-activated.flac"


@pytest.fixture
def start(small_config: Callable[[str], ModelConfig], tmp_path: Path) -> Path:
    """A pre-trained checkpoint."""
    from w2v_edge.model import build_model, save_checkpoint

    save_checkpoint(build_model(small_config("large-small"), seed=3), tmp_path / "start.pt")
    return tmp_path / "start.pt"


def _table(path: Path, *rows: str, columns: str = "path\ttext") -> Path:
    path.write_text("\n".join([columns, *rows]) + "\n", "utf-8")
    return path


def test_metrics_and_examples_are_printed(w2v_edge: Verb, start: Path, tmp_path: Path) -> None:
    """--json prints them as one document; a resumed run that is finished prints a table."""
    run = tmp_path / "run"
    one, other = CLIPS.read_text("utf-8").splitlines()[1:3]
    columns = "path\tsamples\ttext"
    train = _table(tmp_path / "train.tsv", f"{data.FOLDER}/{one}", columns=columns)
    valid = _table(tmp_path / "valid.tsv", f"{data.FOLDER}/{other}", columns=columns)
    outcome = w2v_edge("finetune", start, train, "--valid", valid, *QUICK, "-o", run, "--json")
    assert outcome.code == 0, outcome
    assert outcome.json["finished"]
    assert {"loss", "validation/cer", "validation/wer"} <= set(outcome.json["figures"])
    assert len(outcome.json["examples"]) == 1
    again = w2v_edge("finetune", start, train, "--valid", valid, *QUICK, "-o", run, "--resume")
    assert again.code == 0, again
    assert "2 updates" in again.out


def test_bad_input(w2v_edge: Verb, refused: Verb, start: Path, tmp_path: Path) -> None:
    """Bad input gives one line and exit code 1, and creates no folder."""
    output, table = tmp_path / "run", tmp_path / "list.tsv"
    clip = data.FOLDER / SHORT

    def call(*arguments: object, checkpoint: Path = start) -> Any:
        return w2v_edge("finetune", checkpoint, *arguments, *QUICK, "-o", output)

    refused(call(data.FOLDER), 1, "found no texts", "'text'")
    refused(call(tmp_path / "nowhere.tsv"), 1, "nowhere.tsv")
    refused(call(_table(table, str(clip), columns="path")), 1, "found no texts")
    refused(call(_table(table, f"{clip}\t?!")), 1, "1 empty texts")
    refused(call(_table(table, f"{clip}\t{'word ' * 99}")), 1, "more labels than frames")
    refused(call(_table(table, "missing.flac\tword")), 1, "missing.flac")
    refused(call(_table(table, f"{CLIPS}\tword")), 1, "clips.tsv", "--skip-bad")
    refused(call(CLIPS, "--crop-seconds", "0.1"), 1, "longer than --crop-seconds 0.1")
    refused(call(CLIPS, "--resume"), 1, "found no run to resume")
    assert call(CLIPS, "--resume", "--new-vocabulary").code == 2
    refused(call(CLIPS, "--valid", CLIPS), 1, "all recordings in --valid")
    refused(call(CLIPS, checkpoint=CLIPS), 1, "clips.tsv")
    assert not output.exists()
    (tmp_path / "list.jsonl").write_text(json.dumps({"path": str(clip)}) + "\n")
    refused(call(tmp_path / "list.jsonl"), 1, "found no texts")
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    refused(call(CLIPS), 1, "already there")
    assert (output / "thesis.txt").read_text() == "mine"


def test_skip_bad_skips_a_broken_recording(
    w2v_edge: Verb, refused: Verb, start: Path, tmp_path: Path
) -> None:
    """A warning names it; without --skip-bad it is an error before anything is written."""
    broken, output = tmp_path / "broken.flac", tmp_path / "run"
    broken.write_bytes(b"fLaC no more")
    table = _table(tmp_path / "t.tsv", f"{broken}\tword", f"{data.FOLDER / SHORT}\tactivated")
    given = ("finetune", start, table, *QUICK, "-o", output)
    refused(w2v_edge(*given), 1, "broken.flac", "--skip-bad")
    assert not output.exists()
    outcome = w2v_edge(*given, "--skip-bad", "--validation-fraction", "0")
    assert outcome.code == 0, outcome
    assert "warning: skipped" in outcome.err
    assert "broken.flac" in outcome.err


def test_the_vocabulary_is_kept_unless_new_vocabulary_is_given(
    w2v_edge: Verb, refused: Verb, start: Path, tmp_path: Path
) -> None:
    """An error names missing characters; --new-vocabulary takes the texts' characters."""
    import torch

    clip = data.FOLDER / SHORT
    english = _table(tmp_path / "en.tsv", f"{clip}\tactivated")
    french = _table(tmp_path / "fr.tsv", f"{clip}\tactivé")
    first, second = tmp_path / "first", tmp_path / "second"
    assert w2v_edge("finetune", start, english, *QUICK, "-o", first).code == 0
    given = ("finetune", first / "model.pt", french, *QUICK, "-o", second)
    refused(w2v_edge(*given), 1, "lacks 1 characters of the texts: é", "--new-vocabulary")
    assert not second.exists()
    assert w2v_edge(*given, "--new-vocabulary").code == 0
    head = torch.load(second / "model.pt", weights_only=True)["config"]["head"]
    assert set(head["labels"]) >= set("activé")
    assert "d" not in head["labels"]


def test_the_tutorial_architecture_cannot_have_a_head(
    w2v_edge: Verb, refused: Verb, small_config: Callable[[str], ModelConfig], tmp_path: Path
) -> None:
    """The error says so."""
    from w2v_edge.model import build_model, save_checkpoint

    save_checkpoint(build_model(small_config("tutorial-small")), tmp_path / "t.pt")
    outcome = w2v_edge("finetune", tmp_path / "t.pt", CLIPS, *QUICK, "-o", tmp_path / "run")
    refused(outcome, 1, "cannot have a head")
