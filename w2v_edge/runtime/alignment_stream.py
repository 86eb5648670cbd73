"""A stream of audio that reads a known text aloud: the reader's position, and words with times."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.runtime.encoding import Encoding
from w2v_edge.runtime.stream import Stream
from w2v_edge.text.online_alignment import AlignmentUpdate, OnlineAligner


class AlignmentStream:
    """From `Model.stream(align=text)`. For one thread at a time.

        with model.stream(align=text) as stream:
            for block in blocks:
                update = stream.push(block)     # update.position, .words, .provisional
            update = stream.flush()             # the remaining words

    Words are final after `KnownText.delay` seconds at the latest, beside the latency of `stream`.

    Attributes:
        stream: gives the logits.
    """

    def __init__(self, stream: Stream, aligner: OnlineAligner) -> None:
        """Align a text to a stream.

        Args:
            stream: of a model with a CTC head, with its context.
            aligner: of the text.
        """
        self.stream, self._aligner = stream, aligner
        self._failed = False

    @property
    def seconds(self) -> float:
        """Seconds of audio received so far."""
        return self.stream.seconds

    def reset(self) -> None:
        """Forget all audio: the next block starts the text anew."""
        self.stream.reset()
        self._aligner.reset()
        self._failed = False

    def push(self, samples: npt.NDArray[Any]) -> AlignmentUpdate:
        """Add a block and return what it tells; arguments and errors as for `Stream.push`.

        Raises:
            InputError: the logits are not finite, or leave the text no path. The stream has failed.
        """
        self._check_usable()
        return self._align(self.stream.push(samples))

    def flush(self, *, read_all: bool = True) -> AlignmentUpdate:
        """End the stream and return the remaining words.

        Args:
            read_all: whether the text was read to its end; see `OnlineAligner.flush`.

        Raises:
            InputError: as for `push`.
        """
        self._check_usable()
        update = self._align(self.stream.flush())
        last = self._aligner.flush(read_all=read_all)
        return AlignmentUpdate(update.words + last.words, (), last.position, last.remarks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release all audio; words not given yet are lost without `flush`."""
        self.stream.__exit__(kind, error, trace)
        self._aligner.reset()

    def _check_usable(self) -> None:
        if self._failed:
            raise InputError(
                "found a stream that failed before, so frames are missing; call reset() to start "
                "anew"
            )

    def _align(self, piece: Encoding) -> AlignmentUpdate:
        try:
            assert piece.logits is not None
            return self._aligner.push(piece.logits)
        except BaseException:
            self._failed = True
            raise
