"""Any checkpoint, recognised by what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2v_edge.checkpoints import fairseq, torchaudio
from w2v_edge.checkpoints.hashing import source_hash
from w2v_edge.checkpoints.hub import download, is_hub_name
from w2v_edge.checkpoints.huggingface.folder import FORMAT, read_folder, used_files
from w2v_edge.checkpoints.huggingface.settings import CONFIG, PREPROCESSOR, preprocessor
from w2v_edge.checkpoints.huggingface.vocabulary import VOCABULARY
from w2v_edge.checkpoints.key_table import Coverage
from w2v_edge.checkpoints.restricted_pickle import read_restricted
from w2v_edge.checkpoints.tensors import BIN, SAFETENSORS
from w2v_edge.errors import CheckpointError, W2VEdgeError
from w2v_edge.model.checkpoint import load_checkpoint
from w2v_edge.model.speech_model import SpeechModel

Read = tuple[SpeechModel, Coverage]


@dataclass(frozen=True)
class Source:
    """A checkpoint that was read.

    Attributes:
        name: what it is called: a file's or folder's name, or the name on the Hub.
        format: `w2v-edge`, `huggingface`, `fairseq` or `torchaudio`.
        model: in eval mode.
        sha256: of its file; of several, that of lines of their hashes and names.
        coverage: what became of its tensors; None of our own, which has no others.
        remarks: what a user should know of it.
    """

    name: str
    format: str
    model: SpeechModel
    sha256: str
    coverage: Coverage | None = None
    remarks: tuple[str, ...] = ()


def load_source(source: str | Path, language: str | None = None) -> Source:
    """Read a checkpoint.

    Args:
        source: a `.pt` file, ours, fairseq's or torchaudio's; a folder of transformers, or its
            weights; or `owner/model` on the Hugging Face Hub.
        language: whose adapter and vocabulary are taken, in a model with several.

    Raises:
        CheckpointError: nothing there, not supported, damaged, or contradicting itself.
        UnsafeCheckpointError: its pickle asks for more than is on the list; it was not run.
        MissingExtraError: what reads it is not installed.
    """
    try:
        return _load(source, language)
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, W2VEdgeError):
            raise
        # Checkpoints are anybody's: what no check foresaw is still the file's fault.
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(
            f"{source}: damaged, or unlike any that is known ({what:.120})"
        ) from error


def _load(source: str | Path, language: str | None) -> Source:
    path = Path(source)
    if path.is_dir():
        return _folder(path, _name(path.resolve()), language)
    if path.is_file():
        if path.name in {SAFETENSORS, BIN} and (path.parent / CONFIG).is_file():
            return _folder(path.parent, _name(path.resolve().parent), language)
        return _file(path, language)
    if is_hub_name(str(source)):
        return _folder(download(str(source), language), str(source), language)
    raise CheckpointError(
        f"{source}: expected a checkpoint file, a folder of transformers or a model's name on the "
        "Hugging Face Hub, found nothing there; make one: w2v-edge init"
    )


def _folder(folder: Path, name: str, language: str | None) -> Source:
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder}: expected a checkpoint file or a folder of transformers, found no {CONFIG} "
            "in it"
        )
    model, coverage = read_folder(folder, language)
    sha256 = source_hash(used_files(folder, language))
    return Source(name, FORMAT, model, sha256, coverage, _remarks(model))


def _remarks(model: SpeechModel) -> tuple[str, ...]:
    files = (model.origin or {}).get("files", {})
    remarks = _of_labels(model, VOCABULARY)
    if preprocessor(files) is None:
        rate = model.config.sample_rate
        remark = (
            f"no settings in {PREPROCESSOR}: the waveform is taken as it is, at {rate} Hz; put the "
            "file beside the weights if the model was trained on normalised audio"
        )
        return (remark, *remarks)
    return remarks


def _of_waveform(name: str, model: SpeechModel) -> tuple[str, ...]:
    if name != "torchaudio" or model.config.normalise is not None:
        return ()
    remark = (
        "a state dict does not say whether the waveform is to be normalised: it is taken as it is; "
        'write {"normalize_waveform": true} into NAME.json beside it otherwise'
    )
    return (remark,)


def _of_labels(model: SpeechModel, what: str) -> tuple[str, ...]:
    head = model.config.head
    if head is None or head.kind != "ctc" or head.labels:
        return ()
    return (f"no {what}: the bundle gives logits and cannot transcribe",)


def _file(path: Path, language: str | None) -> Source:
    if path.suffix == ".safetensors":
        raise CheckpointError(
            f"{path}: expected {CONFIG} beside {SAFETENSORS}; tensors alone do not tell the model"
        )
    if language is not None:
        raise CheckpointError(f"{path}: a single file has no languages to choose from")
    payload, sha256 = _peek(path), source_hash([path])
    for name, (recognises, read) in READERS.items():
        if recognises(payload):
            model, coverage = read(path, payload)
            remarks = (*_of_waveform(name, model), *_of_labels(model, "labels"))
            return Source(_name(path), name, model, sha256, coverage, remarks)
    model = load_checkpoint(path)
    converted = (model.origin or {}).get("format") == FORMAT
    remarks = _remarks(model) if converted else _of_labels(model, "labels")
    return Source(_name(path), "w2v-edge", model, sha256, None, remarks)


READERS: dict[str, tuple[Callable[[object], bool], Callable[[Path, Any], Read]]] = {
    "fairseq": (fairseq.recognises, fairseq.read_fairseq),
    "torchaudio": (torchaudio.recognises, torchaudio.read_torchaudio),
}
"""What tells whether a file is of a format, and what reads it."""


def _peek(path: Path) -> object:
    try:
        return read_restricted(path)
    except Exception:  # noqa: BLE001 - our own reader says best what is wrong with a file
        return None


def _name(path: Path) -> str:
    # Names of files need not be text everywhere.
    return path.name.encode("utf-8", "replace").decode("utf-8")
