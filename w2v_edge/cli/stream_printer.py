"""What `w2v-edge stream` prints: codes, words or JSON, and at last how it went."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from w2v_edge import Encoding, Model
    from w2v_edge.runtime.realtime import Pace
    from w2v_edge.runtime.stream import Stream
    from w2v_edge.text.decoding import StreamDecoder


class Printer:
    """Prints pieces: words of a model that transcribes, else codes, or all of it as JSON."""

    def __init__(self, model: Model, *, with_context: bool, as_json: bool) -> None:
        from w2v_edge.text.decoding import StreamDecoder

        self._as_json = as_json
        self._with_context = with_context
        self._text: StreamDecoder | None = None
        if model.manifest.ctc is not None:
            self._text = StreamDecoder(model.spelling, model.context_frame_seconds)
        self._of_context = model.manifest.quantizer_input == "context"

    def piece(self, piece: Encoding, *, ended: bool = False) -> None:
        """Print what is new."""
        words = []
        if self._text is not None and piece.logits is not None:
            words = self._text.push(piece.logits) + (self._text.flush() if ended else [])
        times = piece.context_times if self._of_context else piece.times
        if self._as_json:
            self._json(piece, times.tolist(), words)
        elif self._text is not None:
            for word in words:
                click.echo(f"{word.start:9.2f}  {word.text}")
        elif piece.codes is not None:
            for when, codes in zip(times, piece.codes.tolist(), strict=True):
                click.echo(f"{when:9.4f}  {' '.join(map(str, codes))}")

    def summary(self, stream: Stream, pace: Pace, *, interrupted: bool) -> None:
        """Print how it went; JSON goes to standard output, as the last object."""
        work = sorted(pace.work) or [0.0]
        seconds = stream.seconds
        result = {
            "seconds": round(seconds, 3),
            "blocks": len(pace.work),
            "late": pace.late,
            "behind_ms": round(1000 * pace.behind, 1),
            "work_ms": {
                "median": round(1000 * work[len(work) // 2], 1),
                "worst": round(1000 * work[-1], 1),
            },
            "real_time_factor": round(sum(work) / seconds, 4) if seconds else None,
            "latency_ms": stream.latency_ms,
            "context_latency_ms": stream.context_latency_ms,
            "start_ms": stream.start_ms,
            "interrupted": interrupted,
        }
        if self._as_json:
            click.echo(json.dumps(result))
            return
        latency = f"{stream.latency_ms:g} ms"
        if stream.context_latency_ms is not None:
            latency += f", context {stream.context_latency_ms:g} ms"
        click.echo(
            f"{seconds:.1f} s in {len(work)} blocks, {pace.late} late; a block took "
            f"{result['work_ms']['median']} ms, at worst {result['work_ms']['worst']} ms; "  # type: ignore[index]
            f"algorithmic latency {latency}",
            err=True,
        )

    def _json(self, piece: Encoding, times: list[float], words: list[Any]) -> None:
        from w2v_edge import strict

        result: dict[str, Any] = {"times": [round(x, 6) for x in times]}
        if piece.codes is not None:
            result["codes"] = piece.codes.tolist()
        if self._with_context and len(piece.context):
            result["context_times"] = [round(x, 6) for x in piece.context_times.tolist()]
            result["context"] = piece.context.tolist()
        if words:
            result["words"] = strict.to_plain(words)
        if times or words or "context" in result:
            click.echo(json.dumps(result))
