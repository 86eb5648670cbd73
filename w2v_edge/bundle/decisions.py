"""What was decided about a checkpoint's text, classes and audio, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from w2v_edge.bundle.manifest import CtcInfo, Manifest

MAX_NAMED = 6
"""Most labels named in one line."""

MEANINGS = {"one_of": "softmax over", "any_of": "sigmoid of", "values": "values of"}


def decisions(manifest: Manifest) -> str:
    """Return the decisions in one line."""
    if manifest.ctc is None:
        parts = _of_classes(manifest)
    else:
        parts = _of_labels(manifest.labels, manifest.ctc)
    parts = [*(parts or ["no head"]), *_of_codes(manifest), *_of_selection(manifest)]
    rate = f"{manifest.sample_rate / 1000:g} kHz"
    return " · ".join((*parts, _waveform(manifest), rate, "padding masked"))


def _waveform(manifest: Manifest) -> str:
    """Return what the front end does with the waveform."""
    encoder = manifest.config.get("feature_encoder")
    if isinstance(encoder, Mapping) and encoder.get("kind") == "log_mel":
        return f"{encoder.get('bins')} mel bins, normalised"
    return "waveform normalised" if manifest.config.get("normalise") else "waveform not normalised"


def _of_labels(labels: tuple[str, ...], ctc: CtcInfo) -> list[str]:
    if not 0 <= ctc.blank < len(labels):
        return [f"blank {ctc.blank}", "no labels" if not labels else "no label of that number"]
    blank = labels[ctc.blank]
    parts = [f"blank {blank!r} ({ctc.blank})", _words(labels, ctc)]
    if ctc.language is not None:
        parts.append(f"language {ctc.language}")
    never = [x for x in ctc.special if x != blank]
    if never:
        parts.append(f"never spelled: {' '.join(never)}")
    if "" in labels:
        parts.append(f"{labels.count('')} without a label")
    if ctc.lowercase:
        parts.append("in lower case")
    return parts


def _words(labels: tuple[str, ...], ctc: CtcInfo) -> str:
    """Return how labels form words; see `w2v_edge.text.spelling`."""
    from w2v_edge.text.spelling import BEGINS, JOINS

    if ctc.word_delimiter is not None:
        return f"words parted by {ctc.word_delimiter!r}"
    if ctc.separator:
        return "a word for each label"
    for mark, how in ((BEGINS, "begin with"), (JOINS, "go on with")):
        marked = [x.startswith(mark) for x in labels if x and x not in ctc.special]
        if any(marked) and (mark == BEGINS or not all(marked)):
            return f"words {how} {mark!r}"
    return "words not parted"


def _of_codes(manifest: Manifest) -> list[str]:
    book = manifest.codebook
    if book is None:
        return []
    if "centroids_sha256" in (manifest.selection or {}):
        return [f"codes: the nearest of {book.entries} centroids to the context"]
    return [f"codes: {book.groups} groups of {book.entries} from the {manifest.quantizer_input}"]


def _of_selection(manifest: Manifest) -> list[str]:
    """Return what the user chose to read and to export."""
    chosen = manifest.selection or {}
    main = "mixed" if chosen.get("mix") else "context"
    shown = {
        "kind": "read as {}",
        "frame_rate": "features resampled to {} Hz",
        "layer": "context of layer {}",
        "layers": "layers {}",
        "mix": "mixed: mean of layers {}",
        "statistics_sha256": f"{main} standardised",
        "pool": f"embedding: {{}} of {'mixed' if main == 'mixed' else 'the context'}",
        "projection": "projected",
        "unit_length": "units of unit length",
        "speaker_threshold": "one speaker from a cosine of {}",
    }
    # A threshold of 0 is one, too.
    given = {x: chosen[x] for x in shown if chosen.get(x) or isinstance(chosen.get(x), float)}
    texts = {
        key: ", ".join(map(str, value)) if isinstance(value, list) else f"{value}"
        for key, value in given.items()
    }
    return [shown[key].format(f"{text:.80}") for key, text in texts.items()]


def _of_classes(manifest: Manifest) -> list[str]:
    """Return how a head pools frames, where that is a choice, and what it gives."""
    head = manifest.config.get("head")
    parts = []
    if isinstance(head, Mapping) and head.get("kind") == "pooled":
        parts.append(f"{head.get('pooling')!s:.10} over frames, dense, tanh, linear")
    if manifest.logits_axes:
        each = " for each frame" if "frames" in manifest.logits_axes else ""
        parts.append(_classifier(manifest.labels, manifest.logits_meaning) + each)
    parts += [f"{name}: {_classifier(x.labels, x.meaning)}" for name, x in manifest.heads.items()]
    if manifest.embedding_min_frames is not None:
        parts.append(f"embedding: x-vector of at least {manifest.embedding_min_frames} frames")
    return parts


def _classifier(labels: tuple[str, ...], meaning: str | None) -> str:
    few = ", ".join(labels[:MAX_NAMED]) + (", ..." if len(labels) > MAX_NAMED else "")
    return f"{MEANINGS[meaning or 'one_of']} {few or 'its labels'}"
