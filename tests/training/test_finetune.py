"""Fine-tuning: trained and frozen weights, resuming, and the exported bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import w2v_edge
from tests.training.helpers import assert_same_run, interrupt_at
from w2v_edge import data
from w2v_edge.errors import OutputExistsError, TrainingError
from w2v_edge.model import build_model, load_checkpoint, preset, save_checkpoint

if TYPE_CHECKING:
    import numpy.typing as npt

    from w2v_edge.model import SpeechModel
    from w2v_edge.training.finetune import Finetuned

Run = Callable[..., "Finetuned"]
RATES = ("cer", "wer", "cer_as_written", "wer_as_written")
SHORT = {"en-activated.flac": "activated", "en-conf-getpin.flac": None}


def _manifest(folder: Path, texts: dict[str, str], name: str = "texts.tsv") -> Path:
    return _table(folder / name, {data.FOLDER / clip: text for clip, text in texts.items()})


def _table(path: Path, texts: dict[Path, str]) -> Path:
    rows = [f"{clip}\t{text}" for clip, text in texts.items()]
    path.write_text("\n".join(["path\ttext", *rows]) + "\n", "utf-8")
    return path


def _logits(model: SpeechModel, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The logits of a waveform (frames, labels), by PyTorch."""
    with torch.no_grad():
        features = model.features(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
        logits: npt.NDArray[np.float32] = model.outputs(features)["logits"][0].numpy()
    return logits


def _written(model: SpeechModel, waveform: npt.NDArray[np.float32]) -> str:
    from w2v_edge.training.vocabulary import Vocabulary

    head = model.config.head
    assert head is not None
    assert head.kind == "ctc"
    return Vocabulary(head).decode(_logits(model, waveform))


def test_a_model_learns_two_recordings_and_its_bundle_transcribes_them(
    finetune: Run, speech: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The transcripts are right; the bundle gives the text of PyTorch, and codes.

    The error rates are zero against the text in the labels' form, not against the text as written.
    """
    from w2v_edge_export import export

    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
    monkeypatch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 1)
    texts = {
        "en-activated.flac": "Activated.",
        "en-conf-getpin.flac": "Please enter the conference PIN number!",
    }
    save_checkpoint(build_model(preset("tiny"), seed=1), tmp_path / "tiny.pt")
    shutil.copy(data.FOLDER / "en-activated.flac", tmp_path / "again.flac")
    valid = _table(tmp_path / "valid.tsv", {tmp_path / "again.flac": "Activated."})
    done = finetune(
        tmp_path / "tiny.pt",
        "run",
        sources=[_manifest(tmp_path, texts)],
        valid=[valid],
        updates=120,
        every=120,
        learning_rate=3e-3,
        task_options={"mask_time": 0.0, "mask_channels": 0.0},
    )
    assert done.trained.finished
    (example,) = done.examples
    assert [example.written, example.reference] == ["Activated.", "activated"]
    rates = [done.trained.figures[f"validation/{name}"] for name in RATES]
    assert rates == pytest.approx([0, 0, 2 / len("Activated."), 1])
    model = load_checkpoint(tmp_path / "run" / "model.pt")
    said = {"en-activated": "activated", "en-conf-getpin": "please enter the conference pin number"}
    assert {name: _written(model, speech[name]) for name in said} == said
    export(tmp_path / "run" / "model.pt", tmp_path / "bundle")
    bundle = w2v_edge.load(tmp_path / "bundle")
    for waveform in speech.values():
        assert bundle.transcribe(waveform, 16_000).text == _written(model, waveform)
    assert len(bundle.encode(speech["en-activated"], 16_000).codes)


def test_a_frozen_feature_encoder_keeps_the_codes(
    finetune: Run, initial: Callable[..., Path], speech: dict[str, Any], tmp_path: Path
) -> None:
    """Codes are identical to the checkpoint's, while the context changes."""
    start = initial("base-small", dropout=0.1)
    finetune(start, "run", learning_rate=1e-2, task_options={"freeze_updates": 0})
    before, after = load_checkpoint(start), load_checkpoint(tmp_path / "run" / "model.pt")
    for waveform in speech.values():
        given = torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])
        with torch.no_grad():
            one, other = before.features(*given), after.features(*given)
            assert before.quantizer is not None
            assert after.quantizer is not None
            codes = [m.quantizer(x).codes for m, x in ((before, one), (after, other))]  # type: ignore[misc]
            assert torch.equal(codes[0], codes[1])
            assert not torch.allclose(before.context(one), after.context(other), atol=1e-3)


def test_a_trained_feature_encoder_loses_its_codes(
    finetune: Run, initial: Callable[..., Path], tmp_path: Path
) -> None:
    """The convolutions change, so the quantizer is removed, with a warning."""
    from w2v_edge.training.recipe import Callbacks

    start, said = initial("large-small"), list[str]()
    options = {"train_feature_encoder": True, "freeze_updates": 0}
    finetune(start, "run", task_options=options, callbacks=Callbacks(warn=said.append))
    before, after = load_checkpoint(start), load_checkpoint(tmp_path / "run" / "model.pt")
    assert after.quantizer is None
    assert any("no quantizer" in line for line in said)
    one, other = (x.feature_encoder.state_dict() for x in (before, after))
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_freeze_updates_train_the_head_alone(
    finetune: Run, initial: Callable[..., Path], tmp_path: Path
) -> None:
    """No other weight changes, not even by weight decay; later the transformer is trained."""
    start = initial("large-small")
    finetune(start, "frozen", updates=2, weight_decay=0.1, task_options={"freeze_updates": 2})
    finetune(start, "free", updates=3, weight_decay=0.1, task_options={"freeze_updates": 2})
    before = load_checkpoint(start).state_dict()
    frozen, free = (
        load_checkpoint(tmp_path / name / "model.pt").state_dict() for name in ("frozen", "free")
    )
    body = [name for name in frozen if not name.startswith("head.")]
    assert all(torch.equal(frozen[name], before[name]) for name in body)
    assert frozen["head.classifier.bias"].abs().min() > 0
    moved = [name for name in body if not torch.equal(free[name], before[name])]
    assert any(name.startswith("context_network.blocks.0.") for name in moved)
    assert not any(
        name.startswith(("feature_", "quantizer.")) for name in moved if "pro" not in name
    )


def test_an_interrupted_run_equals_an_uninterrupted_one(
    finetune: Run, initial: Callable[..., Path], tmp_path: Path
) -> None:
    """Losses and weights agree, with dropout, masks, accumulation and `freeze_updates`."""
    start = initial("base-small", dropout=0.1, layer_drop=0.2)
    given: dict[str, Any] = {"updates": 6, "accumulate": 2, "batch_seconds": 18.0}
    given |= {"crop_seconds": 18.0, "validation_fraction": 0.3}
    given |= {"task_options": {"freeze_updates": 3}}
    finetune(start, "whole", **given)
    callbacks = interrupt_at(3, 5)
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            finetune(start, "parts", resume=resume, callbacks=callbacks, **given)
    finetune(start, "parts", resume=True, **given)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_batch_norm_keeps_its_statistics(
    finetune: Run, initial: Callable[..., Path], tmp_path: Path
) -> None:
    """Batch norm stays in evaluation mode after saves, evaluations and a resume."""
    start = initial("base-small", position="batch_norm")
    given: dict[str, Any] = {"validation_fraction": 0.3, "learning_rate": 1e-3, "accumulate": 1}
    given |= {"crop_seconds": 30.0, "task_options": {"freeze_updates": 0}}
    finetune(start, "run", updates=6, **given)
    finetune(start, "run", updates=8, resume=True, **given)
    before = load_checkpoint(start).state_dict()
    after = load_checkpoint(tmp_path / "run/model.pt").state_dict()
    statistics = [name for name in after if "running_" in name]
    assert len(statistics) == 2
    assert all(torch.equal(after[name], before[name]) for name in statistics)


def test_another_run_is_refused(
    finetune: Run, initial: Callable[..., Path], pretrain: Callable[..., Any], tmp_path: Path
) -> None:
    """The error says what differs: the task, the checkpoint, an option, the texts."""
    start = initial("large-small")
    texts = {"en-activated.flac": "one", "en-conf-getpin.flac": "two"}
    finetune(start, "run", updates=1, sources=[_manifest(tmp_path, texts)])
    with pytest.raises(OutputExistsError, match="--resume"):
        finetune(start, "run", updates=1, sources=[_manifest(tmp_path, texts)])
    again: dict[str, Any] = {"resume": True, "updates": 1}
    with pytest.raises(TrainingError, match=r"checkpoint 'large-small.pt', found 'other.pt'"):
        finetune(Path("other.pt"), "run", sources=[_manifest(tmp_path, texts)], **again)
    options = {"mask_time": 0.1}
    with pytest.raises(TrainingError, match=r"mask_time 0\.2, found 0\.1"):
        finetune(start, "run", sources=[_manifest(tmp_path, texts)], task_options=options, **again)
    changed = texts | {"en-activated.flac": "neo"}
    with pytest.raises(TrainingError, match="other recordings"):
        finetune(start, "run", sources=[_manifest(tmp_path, changed)], **again)
    pretrain("other", updates=1)
    with pytest.raises(TrainingError, match="run of pretrain, expected finetune"):
        finetune(start, "other", **again)
    with pytest.raises(TrainingError, match="run of finetune, expected pretrain"):
        pretrain("run", resume=True)


def test_unsuitable_recordings_are_left_out_and_counted(
    finetune: Run, initial: Callable[..., Path], tmp_path: Path
) -> None:
    """Long recordings and long or empty texts are left out, in validation too."""
    from w2v_edge.training.recipe import Callbacks

    texts = {
        "en-activated.flac": "activated " * 50,
        "en-conf-getpin.flac": "please",
        "en-demo-abouttotry.flac": "i am about to",
        "es-demo-abouttotry.flac": "?!",
    }
    valid = _manifest(tmp_path, {"fr-demo-abouttotry.flac": "je vais"}, "valid.tsv")
    said: list[str] = []
    done = finetune(
        initial("large-small"),
        "run",
        sources=[_manifest(tmp_path, texts)],
        valid=[valid],
        updates=1,
        crop_seconds=15.0,
        callbacks=Callbacks(warn=said.append),
    )
    reasons = ("more labels than they have frames", "longer than --crop-seconds 15", "is empty")
    for reason in reasons:
        assert [x.split(":")[0] for x in said if reason in x] == ["left out 1 recordings"], said
    assert done.trained.figures["labels"] == len("please")
    assert [x.reference for x in done.examples] == ["je vais"]
    assert {f"validation/{name}" for name in ("loss", *RATES)} <= done.trained.figures.keys()
