"""Error rates of checkpoints on recordings of voices, known and unknown.

    python -m bench.synthetic.readable --checkpoint synthetic=run/model.pt --voice Allison=en.tsv

Greedy transcripts are compared with the texts, in lower case without punctuation. A voice can be a
manifest of a few recordings: the intervals say how little these tell.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jiwer
import torch

from bench.peers import hardware
from bench.tiny.document import give
from bench.tiny.prompts import normalised
from bench.tiny.scores import interval, ratio
from w2v_edge.audio import find_utterances, read_audio
from w2v_edge.errors import InputError, W2VEdgeError
from w2v_edge.model import load_checkpoint
from w2v_edge.model.heads import CtcHead
from w2v_edge.model.speech_model import Wav2Vec2Model
from w2v_edge.training.vocabulary import Vocabulary

FORMAT = "w2v-edge readable"
EXAMPLES = 5

RATES: dict[str, Any] = {"cer": jiwer.process_characters, "wer": jiwer.process_words}


def readable(checkpoints: Mapping[str, Path], voices: Mapping[str, Path]) -> dict[str, Any]:
    """Return the error rates of each checkpoint on each voice.

    Raises:
        InputError: a manifest has no texts, or a checkpoint no letters.
        CheckpointError: a checkpoint cannot be loaded.
    """
    machine = hardware.describe()
    return {
        "format": FORMAT,
        "version": 1,
        "hardware": machine,
        "recordings": {
            voice: [x.id for x in find_utterances([manifest])] for voice, manifest in voices.items()
        },
        "checkpoints": {
            name: {voice: _rates(path, manifest) for voice, manifest in voices.items()}
            for name, path in checkpoints.items()
        },
    }


def _rates(checkpoint: Path, manifest: Path) -> dict[str, Any]:
    said = [x for x in find_utterances([manifest]) if normalised(x.text or "")]
    if not said:
        raise InputError(f"{manifest}: found no texts, expected a column 'text'")
    model = load_checkpoint(checkpoint)
    if not isinstance(model, Wav2Vec2Model) or not isinstance(model.head, CtcHead):
        raise InputError(f"{checkpoint}: found no labels, expected a model for text")
    rate = model.config.sample_rate
    waveforms = [read_audio(x.path, rate) for x in said]
    texts = [normalised(x.text or "") for x in said]
    written = [transcribe(model, torch.from_numpy(x)) for x in waveforms]
    return {
        "recordings": len(said),
        "minutes": round(sum(map(len, waveforms)) / rate / 60, 2),
        **{name: interval(error_rate(texts, written, name)) for name in RATES},
        "examples": [
            {"said": a, "written": b} for a, b in zip(texts[:EXAMPLES], written, strict=False)
        ],
    }


@torch.no_grad()
def transcribe(model: Wav2Vec2Model, waveform: torch.Tensor) -> str:
    """Return the greedy transcript of a waveform (samples,)."""
    lengths = torch.tensor([len(waveform)])
    outputs = model.outputs(model.features(waveform[None], lengths))
    return Vocabulary.of_model(model.config).decode(outputs["logits"][0].numpy())


def error_rate(said: Sequence[str], written: Sequence[str], name: str) -> Any:
    """Return the error rate `cer` or `wer` over recordings, as a score."""
    found = [RATES[name](a, b) for a, b in zip(said, written, strict=True)]
    edits = [x.substitutions + x.deletions + x.insertions for x in found]
    return ratio(edits, [x.hits + x.substitutions + x.deletions for x in found])


def _named(text: str) -> tuple[str, Path]:
    """Read NAME=PATH."""
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected NAME=PATH")
    return name, Path(path)


def main() -> None:
    """Measure, and print or write one JSON document."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.synthetic.readable",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", type=_named, action="append", required=True, metavar="NAME=FILE")
    add("--voice", type=_named, action="append", required=True, metavar="NAME=MANIFEST")
    add("-o", "--output", type=Path, help="write JSON here instead of printing it")
    given = parser.parse_args()
    try:
        give(readable(dict(given.checkpoint), dict(given.voice)), given.output)
    except W2VEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
