"""Data in the package: short recordings of speech, and a small trained model.

LICENSE.md has their licences and credits, tiny/README.md the model card.
"""

from __future__ import annotations

from pathlib import Path

from w2v_edge.audio import Waveform, read_audio

FOLDER = Path(__file__).parent
DEMO_CLIP = FOLDER / "en-demo-abouttotry.flac"
TINY = FOLDER / "tiny/tiny.pt"
"""The trained checkpoint of the preset `tiny`."""

TINY_INT8 = FOLDER / "tiny/tiny-int8"
"""Its bundle with int8 weights, for `w2v_edge.load`."""


def clips(sample_rate: int) -> dict[str, Waveform]:
    """Read all clips at `sample_rate` Hz, by name. Needs the extra `audio`."""
    return {path.stem: read_audio(path, sample_rate) for path in sorted(FOLDER.glob("*.flac"))}
