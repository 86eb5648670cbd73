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
    rate = f"{manifest.sample_rate / 1000:g} kHz"
    return " · ".join((*parts, _waveform(manifest), rate, "padding masked"))


def _waveform(manifest: Manifest) -> str:
    """Return what the front end does with the waveform."""
    encoder = manifest.config.get("feature_encoder")
    if isinstance(encoder, Mapping) and encoder.get("kind") == "log_mel":
        return f"{encoder.get('bins')} mel bins, normalised"
    return "waveform normalised" if manifest.config.get("normalise") else "waveform not normalised"


def _of_labels(labels: tuple[str, ...], ctc: CtcInfo) -> list[str]:
    if not labels:
        return [f"blank {ctc.blank}", "no labels"]
    parts = [f"blank {labels[ctc.blank]!r} ({ctc.blank})"]
    if ctc.word_delimiter is not None:
        parts.append(f"words parted by {ctc.word_delimiter!r}")
    never = [x for x in ctc.special if x != labels[ctc.blank]]
    if never:
        parts.append(f"never spelled: {' '.join(never)}")
    if "" in labels:
        parts.append(f"{labels.count('')} without a label")
    if ctc.lowercase:
        parts.append("in lower case")
    return parts


def _of_classes(manifest: Manifest) -> list[str]:
    """Return how a head pools frames, where that is a choice, and what it gives."""
    head = manifest.config.get("head")
    parts = []
    if isinstance(head, Mapping) and head.get("kind") == "pooled":
        parts.append(f"{head.get('pooling')!s:.10} over frames, dense, tanh, linear")
    if manifest.logits_axes:
        parts.append(_classifier(manifest.labels, manifest.logits_meaning))
    parts += [f"{name}: {_classifier(x.labels, x.meaning)}" for name, x in manifest.heads.items()]
    if manifest.embedding_min_frames is not None:
        parts.append(f"embedding: x-vector of at least {manifest.embedding_min_frames} frames")
    return parts


def _classifier(labels: tuple[str, ...], meaning: str | None) -> str:
    few = ", ".join(labels[:MAX_NAMED]) + (", ..." if len(labels) > MAX_NAMED else "")
    return f"{MEANINGS[meaning or 'one_of']} {few or 'its labels'}"
