"""Prints when the words of a known text are read, for `w2v-edge stream --align`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from w2v_edge.cli.output import to_json
from w2v_edge.text.aligner import AlignedWord, Aligner
from w2v_edge.text.alignment_files import read_text, spoken_text
from w2v_edge.text.online_alignment import KnownText, OnlineAligner

if TYPE_CHECKING:
    from w2v_edge import Encoding, Model
    from w2v_edge.runtime.realtime import Pace
    from w2v_edge.runtime.stream import Stream


class Summary(Protocol):
    """Prints timing at the end of a stream."""

    def summary(self, stream: Stream, pace: Pace, *, interrupted: bool) -> None:
        """Print it."""
        ...


class AlignmentPrinter:
    """Prints each word once its time is final; as JSON, also the reader's position."""

    def __init__(self, model: Model, path: Path, timing: Summary, *, as_json: bool) -> None:
        """Read the text.

        Args:
            model: with a CTC head.
            path: of the text.
            timing: prints the summary.
            as_json: print a JSON object for each block.

        Raises:
            HeadMissingError: the model has no CTC head.
            InputError: the text cannot be read or aligned.
        """
        aligner = Aligner(model.spelling, model.manifest.labels)
        known = KnownText(spoken_text(read_text(path)))
        self._online = OnlineAligner(aligner, known, model.context_frame_seconds)
        self._as_json = as_json
        self.summary = timing.summary

    def piece(self, piece: Encoding) -> None:
        """Print what became final."""
        assert piece.logits is not None
        found = self._online.push(piece.logits)
        if not self._as_json:
            self._lines(found.words)
        elif len(piece.logits):
            result = {
                "position": vars(found.position),
                "words": [_plain(x) for x in found.words],
                "provisional": [_plain(x) for x in found.provisional],
            }
            click.echo(to_json(result))

    def end(self, piece: Encoding, *, interrupted: bool) -> None:
        """Print the rest; a reader who is interrupted has not read the text to its end."""
        self.piece(piece)
        found = self._online.flush(read_all=not interrupted)
        if self._as_json:
            result: dict[str, Any] = {"position": vars(found.position)}
            result |= {"words": [_plain(x) for x in found.words], "provisional": []}
            click.echo(to_json(result | {"remarks": found.remarks}))
            return
        self._lines(found.words)
        for remark in found.remarks:
            click.echo(f"note: {remark}", err=True)

    def _lines(self, words: tuple[AlignedWord, ...]) -> None:
        for x in words:
            click.echo(f"{x.start:.2f}\t{x.end:.2f}\t{x.score:.2f}\t{x.word}")


def _plain(word: AlignedWord) -> dict[str, Any]:
    return {"word": word.word, "start": word.start, "end": word.end, "score": word.score}
