"""Recordings with transcripts: reading, the validation split, and filters.

CTC needs whole recordings with their whole texts, and a frame for each label: recordings that are
longer than a crop, or have more labels than frames, are left out with a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path

from w2v_edge.audio import Utterance, find_utterances
from w2v_edge.errors import InputError
from w2v_edge.model.config import ModelConfig
from w2v_edge.text.text_form import TextForm
from w2v_edge.training.recipe import Recipe
from w2v_edge.training.recordings import BadRecordings, Clip, measure, split_validation
from w2v_edge.training.vocabulary import MAX_NAMED, Vocabulary

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Transcribed:
    """Utterances with their texts as written, none of them empty once normalised.

    Attributes:
        train: the training split.
        validation: the validation split; may be empty.
        form: the form that texts are normalised to.
        dropped: characters that normalising leaves out, of all texts.
    """

    train: list[Utterance]
    validation: list[Utterance]
    form: TextForm
    dropped: Counter[str] = field(default_factory=Counter)

    def report(self, warn: Warn) -> None:
        """Say which characters were left out, the most frequent first, and an unusual case."""
        if self.form.turkic and not self.form.cased:
            warn("I is \u0131 in lower case, as in Turkish: the alphabet has \u0131 and no w")
        if self.dropped:
            found = self.dropped.most_common(MAX_NAMED)
            few = " ".join(f"{char!r} {count}" for char, count in found)
            more = " ..." if len(self.dropped) > MAX_NAMED else ""
            warn(f"left out {self.dropped.total()} characters of the texts: {few}{more}")

    @property
    def texts(self) -> list[str]:
        """All texts, as written."""
        return [x.text or "" for x in (*self.train, *self.validation)]


def read_transcripts(
    sources: Sequence[Path],
    valid: Sequence[Path],
    validation_fraction: float,
    warn: Warn,
    form: TextForm | None = None,
) -> Transcribed:
    """Read manifests with texts.

    Args:
        sources: manifests of the training split.
        valid: manifests of the validation split; if none, a fraction of `sources` is split off.
        validation_fraction: that fraction; the recordings are chosen by name.
        warn: receives the number of recordings that are left out, and why.
        form: of the texts; None for that of new vocabularies.

    Raises:
        InputError: a manifest cannot be read, or has no texts.
    """
    splits = [_with_texts(paths) for paths in (sources, valid) if paths]
    form = form or TextForm.of_texts(x.text or "" for split in splits for x in split)
    dropped: Counter[str] = Counter()
    for utterance in chain(*splits):
        dropped.update(form.dropped(utterance.text or ""))
    found = _with_words(splits[0], sources, form, warn)
    if valid:
        kept = _with_words(splits[1], valid, form, warn)
        paths = {x.path.resolve() for x in kept}
        train = [x for x in found if x.path.resolve() not in paths]
        if not train:
            raise InputError("found all recordings in --valid; name others to train on")
        _report(warn, len(found) - len(train), "they are in --valid")
        return Transcribed(train, kept, form, dropped)
    return Transcribed(*split_validation(found, validation_fraction), form, dropped)


def _with_texts(sources: Sequence[Path]) -> list[Utterance]:
    """Return the utterances of manifests, of which some have a text."""
    found = find_utterances(sources)
    if all(x.text is None for x in found):
        where = ", ".join(map(str, sources))
        raise InputError(
            f"{where}: found no texts; name a .tsv with the columns 'path' and 'text', or a .jsonl "
            "with these keys"
        )
    return found


def _with_words(
    found: Sequence[Utterance], sources: Sequence[Path], form: TextForm, warn: Warn
) -> list[Utterance]:
    """Return the utterances whose text is not empty once normalised."""
    kept = [x for x in found if form.normalise(x.text or "")]
    if not kept:
        where = ", ".join(map(str, sources))
        raise InputError(
            f"{where}: found {len(found)} empty texts, expected letters or digits in 'text'"
        )
    _report(warn, len(found) - len(kept), "their text is empty")
    return kept


def measure_whole(
    utterances: Sequence[Utterance],
    config: ModelConfig,
    recipe: Recipe,
    *,
    bad: BadRecordings,
    warn: Warn,
) -> list[Clip]:
    """Measure recordings, and keep those that are no longer than a crop.

    Raises:
        AudioFileError: a recording cannot be read, and such files are not skipped.
        InputError: no recording is left.
    """
    found = measure(utterances, config.sample_rate, min_seconds=recipe.min_seconds, bad=bad)
    clips = [x for x in found if x.seconds <= recipe.crop_seconds]
    longer = f"longer than --crop-seconds {recipe.crop_seconds:g}"
    if not clips:
        raise InputError(
            f"found {len(found)} recordings, all {longer}; cut them and their texts, or raise it"
        )
    _report(warn, len(found) - len(clips), f"they are {longer}")
    return clips


def keep_fitting(
    clips: Sequence[Clip], config: ModelConfig, vocabulary: Vocabulary, warn: Warn
) -> list[Clip]:
    """Keep recordings with enough frames for their labels.

    Raises:
        InputError: no recording is left.
    """
    kept = [clip for clip in clips if _fits(clip, config, vocabulary)]
    if not kept:
        raise InputError(
            f"found {len(clips)} recordings, all with more labels than frames; "
            "check that each line of the manifest has the text of its own file"
        )
    _report(warn, len(clips) - len(kept), "their text has more labels than they have frames")
    return kept


def frames_needed(labels: Sequence[int]) -> int:
    """Return the smallest number of frames for labels: equal neighbours need a blank between."""
    return len(labels) + sum(a == b for a, b in pairwise(labels))


def _fits(clip: Clip, config: ModelConfig, vocabulary: Vocabulary) -> bool:
    frames = config.geometry.frames(round(clip.seconds * config.sample_rate))
    labels = vocabulary.encode(clip.utterance.text or "")
    return 0 < frames_needed(labels) <= config.context_frames(frames)


def _report(warn: Warn, number: int, reason: str) -> None:
    if number:
        warn(f"left out {number} recordings: {reason}")
