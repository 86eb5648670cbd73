"""Logits to classes, per utterance or per frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle import HeadInfo, Manifest
from w2v_edge.errors import HeadMissingError, InputError
from w2v_edge.text.spelling import log_softmax


@dataclass(frozen=True)
class Classification:
    """The class of an utterance.

    Attributes:
        label: the label with the highest score.
        index: its index.
        labels: all labels; numbers, as text, if the checkpoint does not name them.
        scores: (labels,) float32, by the manifest's `logits_meaning`: probabilities that sum to one
            (softmax), an independent probability per label (sigmoid), or the plain values of a
            regression.
    """

    label: str
    index: int
    labels: tuple[str, ...]
    scores: npt.NDArray[np.float32]

    def top(self, count: int) -> list[tuple[str, float]]:
        """Return the `count` labels with the highest scores, with their scores, highest first."""
        order = np.argsort(-self.scores, kind="stable")[:count]
        return [(self.labels[i], float(self.scores[i])) for i in order]


@dataclass(frozen=True)
class FrameClassification:
    """The class of each frame of an utterance.

    Attributes:
        labels: all labels; numbers, as text, if the checkpoint does not name them.
        logits: (frames, labels) float32.
        indices: (frames,) int64, the best label of each frame.
        times: (frames,) float64 seconds, the center of each frame's receptive field.
    """

    labels: tuple[str, ...]
    logits: npt.NDArray[np.float32]
    indices: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]

    @property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """(frames, labels) float32, softmax: for models with one label per frame."""
        probabilities: npt.NDArray[np.float32] = np.exp(log_softmax(self.logits))
        return probabilities

    @property
    def activations(self) -> npt.NDArray[np.float32]:
        """(frames, labels) float32, sigmoid: for models with independent labels.

        Such as speakers, of whom several or none may talk.
        """
        return _sigmoid(self.logits)


@dataclass(frozen=True)
class WindowedClassification:
    """The class of each of several windows of a recording.

    Attributes:
        labels: all labels; numbers, as text, if the checkpoint does not name them.
        scores: (windows, labels) float32, as of `Classification`.
        indices: (windows,) int64, the label with the highest score.
        starts: (windows,) float64 seconds.
        ends: (windows,) float64 seconds.
    """

    labels: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    indices: npt.NDArray[np.int64]
    starts: npt.NDArray[np.float64]
    ends: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, window: int) -> Classification:
        """Return the class of one window."""
        index = int(self.indices[window])
        return Classification(self.labels[index], index, self.labels, self.scores[window])


def classifiers(manifest: Manifest) -> dict[str, HeadInfo]:
    """Return the classifiers of a model by the names of their outputs.

    Raises:
        HeadMissingError: the model has none.
    """
    if manifest.heads:
        return {f"logits_{name}": head for name, head in manifest.heads.items()}
    if manifest.logits_axes and manifest.ctc is None:
        return {"logits": HeadInfo(manifest.labels, manifest.logits_meaning or "one_of")}
    what = "transcribes (call transcribe)" if manifest.ctc is not None else "has no head"
    if manifest.embedding_min_frames is not None:
        what = "gives embeddings of speakers (call embed)"
    raise HeadMissingError(
        f"this model {what}, so it cannot classify; export a checkpoint with a classifier, such "
        "as a Wav2Vec2ForSequenceClassification"
    )


def classify_utterance(logits: npt.NDArray[Any], head: HeadInfo) -> Classification:
    """Choose the most likely class.

    Args:
        logits: (labels,).
        head: the classifier.

    Raises:
        InputError: as for `classify_frames`.
    """
    labels = _check(logits, 1, head.labels)
    scores = SCORES[head.meaning](logits).astype(np.float32)
    index = int(logits.argmax())
    return Classification(labels[index], index, labels, scores)


def classify_frames(
    logits: npt.NDArray[Any], names: tuple[str, ...], times: npt.NDArray[np.float64]
) -> FrameClassification:
    """Choose the best class of each frame.

    Args:
        logits: (frames, labels).
        names: of the labels, or empty.
        times: (frames,) seconds.

    Raises:
        InputError: the number of logits and labels differs, or logits are not finite.
    """
    labels = _check(logits, 2, names)
    return FrameClassification(
        labels, logits.astype(np.float32), logits.argmax(axis=1).astype(np.int64), times
    )


def _softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    scores: npt.NDArray[Any] = np.exp(log_softmax(logits[np.newaxis])[0])
    return scores


def _sigmoid(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # By tanh, which does not overflow.
    scores: npt.NDArray[Any] = 0.5 + 0.5 * np.tanh(0.5 * logits)
    return scores


SCORES: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "one_of": _softmax,
    "any_of": _sigmoid,
    "values": lambda logits: logits,
}
"""From logits to scores, by the manifest's `logits_meaning`."""


def _check(logits: npt.NDArray[Any], rank: int, names: tuple[str, ...]) -> tuple[str, ...]:
    if logits.ndim != rank or not logits.shape[-1] or len(names) not in {0, logits.shape[-1]}:
        raise InputError(
            f"found logits of shape {logits.shape}, expected {len(names) or 'some'} labels on the "
            "last axis; export again"
        )
    if not np.isfinite(logits).all():
        raise InputError(
            "found logits that are not finite, expected numbers; check the waveform and the "
            "model's weights"
        )
    return names or tuple(map(str, range(logits.shape[-1])))
