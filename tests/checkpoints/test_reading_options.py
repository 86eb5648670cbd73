"""What `--as`, `--blank`, `--processor` and `--base` decide stays in what is saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from w2v_edge import data
from w2v_edge.checkpoints import load_source
from w2v_edge.cli.export import command as export_command
from w2v_edge.cli.finetune import command as finetune_command
from w2v_edge.cli.import_ import command as import_command
from w2v_edge.model.head_config import CtcHeadConfig
from w2v_edge.training.metrics import read_log

Make = Callable[..., Any]

OPTIONS = {"--language", "--as", "--processor", "--base", "--blank"}


@pytest.fixture
def parts(hf_folder: Make, write_processor: Make, tmp_path: Path) -> tuple[Path, Path]:
    """A CTC folder without a processor, and the processor's."""
    folder = shutil.copytree(hf_folder("wav2vec2-ctc"), tmp_path / "weights")
    processor = tmp_path / "processor"
    processor.mkdir()
    write_processor(processor)
    return folder, processor


def _head(source: str | Path) -> CtcHeadConfig:
    head = load_source(source).model.config.head
    assert isinstance(head, CtcHeadConfig)
    return head


def test_options_are_the_same_everywhere() -> None:
    """Verbs that read a checkpoint have the same options with the same help."""
    helps = [
        {x.opts[0]: getattr(x, "help", None) for x in verb.params if x.opts[0] in OPTIONS}
        for verb in (export_command, import_command, finetune_command)
    ]
    assert helps[0].keys() == OPTIONS
    assert helps[0] == helps[1] == helps[2]


def test_a_blank_and_a_processor_stay(
    parts: tuple[Path, Path], command: Make, tmp_path: Path
) -> None:
    """They are in the checkpoint and in the folder made of it; the doubt is settled."""
    folder, processor = parts
    vocabulary = processor / "vocab.json"
    tokens = json.loads(vocabulary.read_text("utf-8"))
    tokens["<blank>"] = tokens.pop("z")
    vocabulary.write_text(json.dumps(tokens), "utf-8")
    saved, back = tmp_path / "saved.pt", tmp_path / "back"
    given = ("import", folder, "--processor", processor)
    code, out, _ = command(*given, "-o", tmp_path / "doubtful.pt")
    assert code == 0
    assert "not the padding token" in out
    code, out, _ = command(*given, "--blank", "<pad>", "-o", saved)
    assert code == 0
    assert "not the padding token" not in out
    assert _head(saved).blank == tokens["<pad>"]
    assert _head(saved).labels[tokens["é"]] == "é"
    assert not any("padding token" in x for x in load_source(saved).remarks)
    assert load_source(saved).model.config.normalise is not None
    assert command("import", saved, "--to", "huggingface", back)[0] == 0
    assert json.loads((back / "config.json").read_bytes())["pad_token_id"] == tokens["<pad>"]
    tokenizer = json.loads((back / "tokenizer_config.json").read_bytes())
    assert tokenizer.items() >= {"pad_token": "<pad>"}.items()


def test_a_body_stays(parts: tuple[Path, Path], command: Make, tmp_path: Path) -> None:
    """What was left out is named, and is in no later file."""
    saved = tmp_path / "body.pt"
    code, out, _ = command("import", parts[0], "--as", "body", "-o", saved)
    assert code == 0
    assert "left out: lm_head.weight (not of the model read as body)" in out
    assert load_source(saved).model.config.head is None
    assert command("import", saved, "--to", "huggingface", tmp_path / "back")[0] == 0
    settings = json.loads((tmp_path / "back/config.json").read_bytes())
    assert settings["architectures"] == ["Wav2Vec2Model"]
    code, _, err = command("import", saved, "--as", "body", "-o", tmp_path / "again.pt")
    assert code == 1
    assert "expected a folder for --as" in err


def test_fine_tuning_reads_as_it_is_told(
    parts: tuple[Path, Path], command: Make, tmp_path: Path
) -> None:
    """The options reach the checkpoint, which a resumed run keeps; another option is refused."""
    folder, processor = parts
    table, run = tmp_path / "texts.tsv", tmp_path / "run"
    table.write_text(f"path\ttext\n{data.FOLDER / 'en-activated.flac'}\tact\n")
    short = ("--cpu", "--validation-fraction", "0", "-o", run, "--updates")
    given = ("finetune", folder, table, "--processor", processor, "--blank", "|")
    code, _, err = command(*given, *short, 1)
    assert code == 0, err
    head = _head(run / "model.pt")
    assert head.labels[head.blank] == "|"
    assert head.labels[7:9] == ("è", "ç")
    code, _, err = command("finetune", folder, table, *short, 2, "--resume")
    assert code == 0, err
    assert read_log(run / "log.jsonl")[-1]["update"] == 2
    code, _, err = command(*given[:-1], "<pad>", *short, 2, "--resume")
    assert code == 1
    assert "blank '|', found '<pad>'" in err


def test_fine_tuning_says_what_is_doubtful(
    parts: tuple[Path, Path], command: Make, tmp_path: Path
) -> None:
    """Remarks of the checkpoint are shown; read as a body, it gets labels of the texts."""
    table = tmp_path / "texts.tsv"
    table.write_text(f"path\ttext\n{data.FOLDER / 'en-activated.flac'}\tact\n")
    given = ("finetune", parts[0], table, "--as", "body", "--cpu", "--updates", "1")
    code, _, err = command(*given, "--validation-fraction", "0", "-o", tmp_path / "run")
    assert code == 0, err
    assert "no preprocessor_config.json: the waveform is not normalised" in err
    assert _head(tmp_path / "run/model.pt").labels[3:] == ("a", "c", "t")
