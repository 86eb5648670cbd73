"""The result of a reader of single files."""

from __future__ import annotations

from dataclasses import dataclass

from w2v_edge.checkpoints.key_table import Coverage
from w2v_edge.model.speech_model import SpeechModel


@dataclass(frozen=True)
class Converted:
    """A model converted from another project's file.

    Attributes:
        model: in eval mode.
        coverage: use of the file's tensors.
        remarks: what the file leaves open, and how it was decided.
    """

    model: SpeechModel
    coverage: Coverage
    remarks: tuple[str, ...] = ()
