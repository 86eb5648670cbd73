"""Recordings with their texts: which are trained on, which are held out, and which do not fit.

CTC needs the whole of a text in the whole of a recording, and a frame for each label: what is
longer than a piece, or has more text than frames, is left out, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from w2v_edge.audio import Utterance, find_utterances
from w2v_edge.errors import InputError
from w2v_edge.model.config import ModelConfig
from w2v_edge.training.clips import Clip, measure
from w2v_edge.training.recipe import Recipe
from w2v_edge.training.split import is_held_out
from w2v_edge.training.vocabulary import Vocabulary, normalise

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Corpus:
    """Utterances with normalised texts, none of them empty; of the two, only the first are trained.

    `held_out` may be empty.
    """

    trained: list[Utterance]
    held_out: list[Utterance]

    @property
    def texts(self) -> list[str]:
        """All texts."""
        return [x.text or "" for x in (*self.trained, *self.held_out)]


def read_corpus(
    sources: Sequence[Path], valid: Sequence[Path], held_out: float, warn: Warn
) -> Corpus:
    """Read manifests.

    Args:
        sources: manifests with texts.
        valid: those that are held out; with none, a share of `sources` is.
        held_out: that share, chosen by names.
        warn: told how many recordings are left out, and why.

    Raises:
        InputError: a manifest that cannot be read, or no texts in it.
    """
    found = _with_texts(sources, warn)
    if valid:
        kept = _with_texts(valid, warn)
        paths = {x.path.resolve() for x in kept}
        trained = [x for x in found if x.path.resolve() not in paths]
        if not trained:
            raise InputError("found all recordings in --valid, too; name others to train on")
        _count(warn, len(found) - len(trained), "they are in --valid, too")
        return Corpus(trained, kept)
    trained = [x for x in found if not is_held_out(x.id, held_out)]
    kept = [x for x in found if is_held_out(x.id, held_out)]
    # Of a few recordings all may be held out by chance.
    return Corpus(trained, kept) if trained else Corpus(found, [])


def _with_texts(sources: Sequence[Path], warn: Warn) -> list[Utterance]:
    """Return the utterances that have a text, normalised."""
    found = find_utterances(sources)
    where = ", ".join(map(str, sources))
    if all(x.text is None for x in found):
        raise InputError(
            f"{where}: found no texts; name a .tsv with the columns 'path' and 'text', or a .jsonl "
            "with these keys"
        )
    spoken = [replace(x, text=normalise(x.text or "")) for x in found]
    kept = [x for x in spoken if x.text]
    if not kept:
        raise InputError(
            f"{where}: found {len(found)} empty texts, expected letters or digits in 'text'"
        )
    _count(warn, len(found) - len(kept), "their text is empty")
    return kept


def measured(
    utterances: Sequence[Utterance],
    config: ModelConfig,
    recipe: Recipe,
    *,
    skip_bad: bool,
    warn: Warn,
) -> list[Clip]:
    """Return recordings that are short enough to be batched as a whole.

    Raises:
        AudioFileError: one cannot be read, and `skip_bad` is false.
        InputError: none is left.
    """
    found, bad = measure(
        utterances, config.sample_rate, least_seconds=recipe.least_seconds, skip_bad=skip_bad
    )
    for line in bad:
        warn(f"passed over: {line}")
    clips = [x for x in found if x.seconds <= recipe.crop_seconds]
    longer = f"longer than --crop-seconds {recipe.crop_seconds:g}"
    if not clips:
        raise InputError(
            f"found {len(found)} recordings, all {longer}; cut them, with their texts, or raise it"
        )
    _count(warn, len(found) - len(clips), f"they are {longer}")
    return clips


def fitting(
    clips: Sequence[Clip], config: ModelConfig, vocabulary: Vocabulary, warn: Warn
) -> list[Clip]:
    """Return recordings that have frames enough for their texts.

    Raises:
        InputError: none is left.
    """
    kept = [clip for clip in clips if _fits(clip, config, vocabulary)]
    if not kept:
        raise InputError(
            f"found {len(clips)} recordings, all with more text than they have frames; "
            "check that each line of the manifest has the text of its own file"
        )
    _count(warn, len(clips) - len(kept), "their text has more labels than they have frames")
    return kept


def frames_needed(labels: Sequence[int]) -> int:
    """Return the fewest frames that spell labels: a blank goes between equal ones."""
    return len(labels) + sum(a == b for a, b in pairwise(labels))


def _fits(clip: Clip, config: ModelConfig, vocabulary: Vocabulary) -> bool:
    frames = config.geometry.frames(round(clip.seconds * config.sample_rate))
    labels = vocabulary.encode(clip.utterance.text or "")
    return 0 < frames_needed(labels) <= config.context_frames(frames)


def names_and_seconds(clips: Iterable[Clip]) -> Iterable[tuple[str, float]]:
    """Yield what tells a corpus from another: names with texts, and lengths."""
    for clip in clips:
        yield f"{clip.utterance.id}\0{clip.utterance.text}", clip.seconds


def _count(warn: Warn, number: int, reason: str) -> None:
    if number:
        warn(f"left out {number} recordings: {reason}")
