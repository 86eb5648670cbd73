"""Recordings of the evaluation, split into training and held-out prompts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from w2v_edge.audio import Utterance, Waveform, find_utterances, read_audio
from w2v_edge.errors import InputError
from w2v_edge.training.recordings import split_validation

SHORTEST_SECONDS = 0.1
"""Recordings below are left out: they hold hardly a frame."""


@dataclass(frozen=True)
class Prompt:
    """A recording in memory.

    Attributes:
        id: its name in the corpus.
        group: the first folder of its name, such as a language; without, that of the file.
        text: transcript, see `normalised`; empty if unknown.
        waveform: (samples,) at the model's sample rate.
        held_out: whether it is excluded from all training and fitting.
    """

    id: str
    group: str
    text: str
    waveform: Waveform
    held_out: bool


def read(sources: Sequence[Path], share: float, sample_rate: int) -> list[Prompt]:
    """Read all recordings of `sources`, and hold out `share` of them as pre-training does.

    Raises:
        InputError: no recordings, or none in the training or the held-out split.
    """
    sides = split_validation(find_utterances(sources), share)
    prompts = [
        _read(utterance, sample_rate, held_out=held_out)
        for held_out, side in zip((False, True), sides, strict=True)
        for utterance in side
    ]
    long = [x for x in prompts if len(x.waveform) >= SHORTEST_SECONDS * sample_rate]
    for side, held_out in (("training", False), ("held-out", True)):
        if not any(x.held_out == held_out for x in long):
            raise InputError(
                f"found no {side} recording among {len(long)} with a share of {share:g} held out, "
                "expected some; name more audio, or another --held-out"
            )
    return long


def spoken(prompts: Iterable[Prompt], group: str) -> tuple[list[Prompt], list[Prompt]]:
    """Return a group's transcribed prompts: training, and held-out with other texts."""
    texts = [x for x in prompts if x.group == group and x.text]
    trained = [x for x in texts if not x.held_out]
    seen = {x.text for x in trained}
    return trained, [x for x in texts if x.held_out and x.text not in seen]


def groups(prompts: Iterable[Prompt]) -> list[str]:
    """Return the names of all groups, sorted."""
    return sorted({x.group for x in prompts})


def normalised(text: str) -> str:
    """Return lower-case letters, digits and apostrophes, words separated by one space."""
    plain = (
        unicodedata.normalize("NFC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    return " ".join(re.findall(r"(?:[^\W_]|')+", plain))


def _read(utterance: Utterance, sample_rate: int, *, held_out: bool) -> Prompt:
    name = Path(utterance.id)
    folders = () if name.is_absolute() else name.parts[:-1]
    return Prompt(
        id=utterance.id,
        group=folders[0] if folders else utterance.path.parent.name,
        text=normalised(utterance.text or ""),
        waveform=read_audio(utterance.path, sample_rate),
        held_out=held_out,
    )
