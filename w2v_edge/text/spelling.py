"""The text that each label of a CTC model stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle.manifest import CtcInfo, Manifest
from w2v_edge.errors import BundleError, HeadMissingError, InputError

BEGINS = "▁"
"""Mark of pieces that begin a word, in SentencePiece."""

JOINS = "##"
"""Mark of pieces that continue a word, in WordPiece."""


@dataclass(frozen=True)
class Spelling:
    """The text that each label of a CTC model stands for.

    Attributes:
        blank: index of the CTC blank.
        texts: text of each label: a space for the word delimiter, empty for the blank and special
            labels. Labels that are separate units, such as phonemes, end in a space; pieces that
            begin a word (SentencePiece's `▁`, or any without `##`) begin with one.
    """

    blank: int
    texts: tuple[str, ...]

    @classmethod
    def of(cls, labels: Sequence[str], ctc: CtcInfo) -> Spelling:
        """Read the spelling of labels.

        Raises:
            BundleError: there are no labels, or none of them is the blank.
        """
        if not labels:
            raise BundleError(
                "this bundle has no labels, since its checkpoint had no vocab.json; put one beside "
                "the checkpoint and export again"
            )
        if not 0 <= ctc.blank < len(labels):
            raise BundleError(
                f"found blank label {ctc.blank}, expected one of {len(labels)} labels; export again"
            )
        marked = [label.startswith(JOINS) and label != JOINS for label in labels if label]
        # Where every label has the mark it tells nothing apart, and is left as it is.
        joined = any(marked) and not all(marked)
        texts = [_text_of(label, ctc, joined=joined) for label in labels]
        texts[ctc.blank] = ""
        return cls(ctc.blank, tuple(texts))

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> Spelling:
        """Read the spelling of a model's labels.

        Raises:
            HeadMissingError: the model has no CTC head.
            BundleError: as for `of`.
        """
        if manifest.ctc is not None:
            return cls.of(manifest.labels, manifest.ctc)
        what = "classifies (call classify)" if manifest.logits_axes else "has no head"
        raise HeadMissingError(
            f"this model {what}, so it cannot transcribe; "
            "export a checkpoint with a CTC head, such as a Wav2Vec2ForCTC"
        )

    def check(self, logits: npt.NDArray[Any]) -> None:
        """Check that logits are (frames, labels) and finite.

        Raises:
            InputError: another shape, NaN, infinity, or a frame whose logits are all -infinity.
        """
        if logits.ndim != 2 or logits.shape[1] != len(self.texts):  # noqa: PLR2004 - two axes
            raise InputError(
                f"found logits of shape {logits.shape}, expected (frames, {len(self.texts)}); "
                "pass the logits of one waveform, computed by the same model"
            )
        # The maximum is NaN if any number is.
        finite = np.isfinite(logits.max(axis=1))
        if not finite.all():
            raise InputError(
                f"found logits at frame {int(np.argmin(finite))} that are not finite, expected "
                "numbers; check the waveform and the model's weights"
            )


def _text_of(label: str, ctc: CtcInfo, *, joined: bool) -> str:
    """Return the text of a label; `joined` says that pieces inside a word are marked as such."""
    if label == ctc.word_delimiter:
        return " "
    if not label or label in ctc.special:
        return ""
    text = label.lower() if ctc.lowercase else label
    if text.startswith(BEGINS):
        return " " + text.removeprefix(BEGINS)
    if joined:
        return text.removeprefix(JOINS) if text.startswith(JOINS) else " " + text
    return text + ctc.separator


def log_softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.floating[Any]]:
    """Return the log-probabilities of (frames, labels) logits, at float32 or more."""
    logits = logits.astype(np.result_type(logits, np.float32), copy=False)
    shifted = logits - logits.max(axis=1, keepdims=True)
    scores: npt.NDArray[np.floating[Any]] = shifted - np.log(
        np.exp(shifted).sum(axis=1, keepdims=True)
    )
    return scores
