"""Reads a checkpoint of any supported format, detected from its content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from w2v_edge.checkpoints import fairseq, fairseq2, torchaudio
from w2v_edge.checkpoints.blank import with_blank
from w2v_edge.checkpoints.converted import Converted
from w2v_edge.checkpoints.hub import download, is_hub_name
from w2v_edge.checkpoints.huggingface.classes import doubts_of_classes
from w2v_edge.checkpoints.huggingface.doubts import doubts_of, doubts_of_preprocessor
from w2v_edge.checkpoints.huggingface.families import KINDS, POOLED
from w2v_edge.checkpoints.huggingface.folder import FIRST, FORMAT, read_folder, used_files
from w2v_edge.checkpoints.huggingface.language_model import (
    FoundLanguageModel,
    lies_there,
    models_in,
    read_language_model,
)
from w2v_edge.checkpoints.huggingface.lora import base_of, is_lora
from w2v_edge.checkpoints.huggingface.pooled_heads import HeadChoice, parse_heads, reading
from w2v_edge.checkpoints.huggingface.rotary import doubt_of_rotary
from w2v_edge.checkpoints.huggingface.settings import (
    CONFIG,
    PREPROCESSOR,
    doubts_of_two,
    labels_of,
    preprocessor,
)
from w2v_edge.checkpoints.huggingface.vocabulary import TOKENIZER, VOCABULARY
from w2v_edge.checkpoints.key_table import Coverage
from w2v_edge.checkpoints.restricted_pickle import read_restricted
from w2v_edge.checkpoints.tensors import BIN, FEW, holds_tensor
from w2v_edge.errors import CheckpointError, W2VEdgeError
from w2v_edge.model.checkpoint import load_checkpoint, own_weights
from w2v_edge.model.config import LogMelConfig
from w2v_edge.model.head_config import CtcHeadConfig, PooledHeadConfig
from w2v_edge.model.speech_model import SpeechModel


@dataclass(frozen=True)
class Source:
    """A loaded checkpoint.

    Attributes:
        name: name of the file or folder, or on the Hub.
        format: `w2v-edge`, `huggingface`, `fairseq`, `fairseq2` or `torchaudio`.
        model: in eval mode.
        sha256: hash of its files, see `source_hash`.
        coverage: use of a converted checkpoint's tensors; None for our own format.
        remarks: warnings for the user.
        language_model: for beam search, if it was asked for.
    """

    name: str
    format: str
    model: SpeechModel
    sha256: str
    coverage: Coverage | None = None
    remarks: tuple[str, ...] = ()
    language_model: FoundLanguageModel | None = None


@dataclass(frozen=True)
class _Choices:
    """What a user decides about a checkpoint; see `load_source`."""

    language: str | None
    kind: str | None
    processor: Path | None
    blank: str | None
    labels: bool
    projection: bool
    base: str | None
    heads: tuple[HeadChoice, ...]
    language_model: bool


def load_source(
    source: str | Path,
    language: str | None = None,
    *,
    kind: str | None = None,
    processor: Path | None = None,
    blank: str | None = None,
    labels: bool = True,
    projection: bool = False,
    base: str | Path | None = None,
    heads: Sequence[str] = (),
    language_model: bool = False,
    mapped: bool = False,
) -> Source:
    """Read a checkpoint.

    Args:
        source: a `.pt` file of w2v-edge, fairseq, fairseq2 or torchaudio; a transformers folder,
            its weight file, or a LoRA folder of peft; or `owner/model` on the Hugging Face Hub.
        language: selects an adapter and a vocabulary of a multilingual model.
        kind: what to read a transformers folder as, such as `body` or `ctc`, whatever its class;
            tensors of anything else are left out.
        processor: another folder, with the files of the preprocessor and the tokenizer.
        blank: the CTC blank, a label or its index, where the files do not say it or are wrong.
        labels: whether to read labels; without them a CTC model gives logits alone.
        projection: read the final projection of the context, `final_proj` in HuBERT and ContentVec.
        base: the model that a LoRA folder is merged into, a folder or a Hub name; None goes by
            its config.
        heads: heads of a class that is in no library, each `[NAME=]TENSORS[:WORD...]`: the
            beginning of the names of its tensors, and `mean`, `sum` or `max` over frames, and
            `values`, `softmax` or `sigmoid`, where the config does not say so.
        language_model: also find the language model in a transformers folder.
        mapped: leave weights in their files where possible; see `load_checkpoint`.

    Raises:
        CheckpointError: the checkpoint is missing, unsupported, damaged or inconsistent.
        UnsafeCheckpointError: its pickle needs a class that is not allowed; it was not run.
        MissingExtraError: a package that reads it is not installed.
    """
    merged_into = None if base is None else str(base)
    if kind is not None and kind not in KINDS:
        raise CheckpointError(f"{source}: found kind {kind!r:.40}, expected {', '.join(KINDS)}")
    if heads and kind not in {None, POOLED}:
        raise CheckpointError(f"{source}: found --as {kind}, expected none beside --head")
    choices = _Choices(
        *(language, kind, processor, blank, labels, projection, merged_into),
        parse_heads(heads),
        language_model,
    )
    try:
        found = _decided(source, _load(source, choices), choices)
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, W2VEdgeError):
            raise
        # Checkpoints are untrusted: an error that no check anticipates is blamed on the file.
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"{source}: damaged, or of an unknown kind ({what:.120})") from error
    if not mapped:
        own_weights(found.model)
    return found


def _decided(source: str | Path, found: Source, choices: _Choices) -> Source:
    """Apply the user's decisions about labels."""
    config = found.model.config
    head = config.head
    if choices.blank is None and choices.labels:
        return found
    if not isinstance(head, CtcHeadConfig):
        raise CheckpointError(f"{source}: found no CTC head, which alone has a blank and labels")
    if choices.blank is not None:
        head = with_blank(source, head, choices.blank)
        found.model.origin = {**(found.model.origin or {}), "blank": choices.blank}
    if not choices.labels:
        head = replace(head, labels=(), word_delimiter=None, special=())
    found.model.config = replace(config, head=head)
    return found


def _load(source: str | Path, choices: _Choices) -> Source:
    path = Path(source)
    if path.is_dir():
        return _folder(path, _name(path.resolve()), choices)
    if path.is_file():
        ours = path.name == BIN or path.name.endswith((".safetensors", ".index.json"))
        if ours and (path.parent / CONFIG).is_file():
            return _weights(path, choices)
        return _file(path, choices)
    if is_hub_name(str(source)):
        return _folder(_downloaded(str(source), choices), str(source), choices)
    raise CheckpointError(
        f"{source}: expected a checkpoint file, a transformers folder or the name of a model on "
        "the Hugging Face Hub, found nothing; make one: w2v-edge init"
    )


def _weights(path: Path, choices: _Choices) -> Source:
    """Read one of the weight files of a transformers folder."""
    return _folder(path.parent, _name(path.parent.resolve()), choices, path)


def _folder(folder: Path, name: str, choices: _Choices, weights: Path | None = None) -> Source:
    lora = None
    if is_lora(folder):
        lora, weights = folder, None
        folder, base = _base(lora, choices)
    elif choices.base is not None:
        raise CheckpointError(f"{folder}: found no LoRA, which alone has a --base")
    if not (folder / CONFIG).is_file():
        others = sorted(x.parent.name for x in folder.glob(f"*/{CONFIG}"))[-FEW:]
        there = f", but in {', '.join(others)}; give the path of one" if others else ""
        raise CheckpointError(
            f"{folder}: expected a checkpoint file or a transformers folder, found no {CONFIG} in "
            f"it{there}"
        )
    model, coverage = read_folder(
        folder,
        choices.language,
        kind=choices.kind,
        processor=choices.processor,
        projection=choices.projection,
        lora=lora,
        labels=choices.labels,
        heads=choices.heads,
        weights=weights,
    )
    sha256 = source_hash(used_files(folder, choices.language, choices.processor, lora, weights))
    if lora is not None:
        model.origin = {**(model.origin or {}), "base": base}
    if choices.heads:
        model.origin = {**(model.origin or {}), "heads": [head.name for head in choices.heads]}
    found, remarks = _language_model(folder, lora, model, choices)
    remarks = _remarks(model, choices) + remarks
    return Source(name, FORMAT, model, sha256, coverage, remarks, found)


def _downloaded(source: str, choices: _Choices) -> Path:
    return download(source, choices.language, language_model=choices.language_model)


def _language_model(
    folder: Path, lora: Path | None, model: SpeechModel, choices: _Choices
) -> tuple[FoundLanguageModel | None, tuple[str, ...]]:
    """Return the language model, if it was asked for, and remarks."""
    # It belongs to the labels, so it lies beside the tokenizer.
    folders = [x for x in (choices.processor, lora, folder) if x is not None]
    place = next(filter(models_in, folders), folder)
    if choices.language_model:
        if not getattr(model.config.head, "labels", ()) or not choices.labels:
            raise CheckpointError(
                f"{folder}: found no labels of a CTC head, which a language model needs; leave out "
                "--with-lm"
            )
        found = read_language_model(place)
        return found, found.remarks
    remark = lies_there(place, (model.origin or {}).get("files", {}))
    return None, () if remark is None else (remark,)


def _base(lora: Path, choices: _Choices) -> tuple[Path, str]:
    """Return the folder of the model that a LoRA was trained on, and its name."""
    name, revision = base_of(lora) if choices.base is None else (choices.base, None)
    for folder in (Path(name), lora / name):
        if folder.is_dir():
            return folder, _name(folder.resolve())
    pinned = name if revision is None or "@" in name else f"{name}@{revision}"
    if is_hub_name(pinned):
        try:
            return _downloaded(pinned, choices), pinned
        except CheckpointError as error:
            raise CheckpointError(f"{lora}: a LoRA, whose base {error}: --base") from error
    raise CheckpointError(
        f"{lora}: a LoRA of {name!r:.80}, which is not there; name the folder: --base"
    )


def _remarks(model: SpeechModel, choices: _Choices) -> tuple[str, ...]:
    origin = model.origin or {}
    files = origin.get("files", {})
    merged: tuple[str, ...] = ()
    if "base" in origin:
        merged = (f"a LoRA, merged into {origin['base']}",)
    if origin.get("adapter") is False:
        merged += (f"no adapter: the weights are taken as those of {origin['language']!r:.20}",)
    remarks: tuple[str, ...] = merged + _of_labels(model, VOCABULARY, choices)
    remarks += doubts_of(files.get(CONFIG, {}), model.config) + doubt_of_rotary(model.config)
    if isinstance(model.config.head, CtcHeadConfig) and choices.labels:
        found = labels_of(files, model.config.head)
        decided = choices.blank is not None or "blank" in origin
        remarks += found.remarks if decided else found.doubts + found.remarks
    if "heads" not in origin:
        remarks += doubts_of_classes(files.get(CONFIG, {}), model.config.head)
        if isinstance(model.config.head, PooledHeadConfig):
            remarks += (reading(files.get(CONFIG, {}), model.config.head),)
    given = preprocessor(files)
    if isinstance(model.config.feature_encoder, LogMelConfig):
        bins = model.config.feature_encoder.bins
        doubt = f"no {PREPROCESSOR}: {bins} mel bins, by feature_projection_input_dim"
        return (doubt, *remarks) if given is None else remarks
    if given is None:
        rate = model.config.sample_rate
        remark = (
            f"no {PREPROCESSOR}: the waveform is not normalised, at {rate} Hz; put the file next "
            "to the weights if the model was trained on normalised audio"
        )
        return (remark, *remarks)
    remarks += doubts_of_two(files) + doubts_of_preprocessor(given)
    if given is files.get(TOKENIZER):
        what = "normalised" if model.config.normalise else "not normalised"
        return (f"no {PREPROCESSOR}: the waveform is {what}, as {TOKENIZER} says", *remarks)
    return remarks


def _of_import(model: SpeechModel, choices: _Choices) -> tuple[str, ...]:
    """Return what was said when a model was imported from another project's file."""
    origin = model.origin or {}
    said = [x for x in origin.get("remarks", []) if isinstance(x, str)]
    lines = [" ".join(f"{origin.get('file')!s:.60}: {x}".split()) for x in said]
    return (*lines, *_of_labels(model, "labels", choices))


def _of_labels(model: SpeechModel, what: str, choices: _Choices) -> tuple[str, ...]:
    head = model.config.head
    if head is None or head.kind != "ctc" or head.labels or not choices.labels:
        return ()
    return (f"no {what}: the bundle returns logits and cannot transcribe",)


def _file(path: Path, choices: _Choices) -> Source:
    if path.suffix == ".safetensors":
        raise CheckpointError(
            f"{path}: expected {CONFIG} beside it, found tensors without settings"
        )
    payload = _peek(path)
    reader = next((x for x in READERS.items() if x[1][0](payload)), None)
    if reader is None and any(holds_tensor(payload, name) for name in FIRST):
        if (path.parent / CONFIG).is_file():
            return _weights(path, choices)
        raise CheckpointError(
            f"{path}: found tensors of transformers without settings, expected {CONFIG} beside it"
        )
    for option, value in (
        ("--language", choices.language),
        ("--as", choices.kind),
        ("--processor", choices.processor),
        ("--base", choices.base),
        ("--head", choices.heads or None),
        ("--with-lm", choices.language_model or None),
    ):
        if value is not None:
            raise CheckpointError(f"{path}: found a single file, expected a folder for {option}")
    if choices.projection:
        if not fairseq.recognises(payload):
            raise CheckpointError(f"{path}: found no final projection, which fairseq's files have")
        projected = partial(fairseq.read_fairseq, projection=True)
        return _converted(path, "fairseq", projected, payload, choices)
    if reader is not None:
        name, (_, read) = reader
        return _converted(path, name, read, payload, choices)
    model = load_checkpoint(path, mapped=True)
    converted = (model.origin or {}).get("format") == FORMAT
    remarks = _remarks(model, choices) if converted else _of_import(model, choices)
    return Source(_name(path), "w2v-edge", model, source_hash([path]), None, remarks)


def _converted(
    path: Path, name: str, read: Callable[..., Converted], payload: object, choices: _Choices
) -> Source:
    found = read(path, payload, labels=choices.labels)
    found.model.origin = {"format": name, "file": _name(path), "remarks": list(found.remarks)}
    remarks = (*found.remarks, *_of_labels(found.model, LABELS[name], choices))
    return Source(_name(path), name, found.model, source_hash([path]), found.coverage, remarks)


READERS: dict[str, tuple[Callable[[object], bool], Callable[..., Converted]]] = {
    "fairseq": (fairseq.recognises, fairseq.read_fairseq),
    "fairseq2": (fairseq2.recognises, fairseq2.read_fairseq2),
    "torchaudio": (torchaudio.recognises, torchaudio.read_torchaudio),
}
"""Detection and reader of each single-file format."""

LABELS = {
    "fairseq": "dict.*.txt",
    "fairseq2": "tokens.txt or SentencePiece model beside the file",
    "torchaudio": "labels",
}
"""Where the labels of each format are, for the remark that there are none."""


def source_hash(files: Sequence[Path]) -> str:
    """Return the SHA-256 of a file; of several, the SHA-256 of the lines `HASH  NAME`, sorted."""
    if len(files) == 1:
        return _sha256(files[0])
    lines = sorted(f"{_sha256(path)}  {path.name}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _peek(path: Path) -> object:
    try:
        return read_restricted(path)
    except Exception:  # noqa: BLE001 - our own reader reports the error best
        return None


def _name(path: Path) -> str:
    # On POSIX a file name need not be valid Unicode.
    return path.name.encode("utf-8", "replace").decode("utf-8")
