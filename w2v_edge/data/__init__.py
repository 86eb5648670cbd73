"""Short recordings of speech that ship with the package; see LICENSE.md beside this file."""

from __future__ import annotations

from pathlib import Path

from w2v_edge.audio import Waveform, read_audio

FOLDER = Path(__file__).parent
DEMO_CLIP = FOLDER / "en-demo-abouttotry.flac"


def clips(sample_rate: int) -> dict[str, Waveform]:
    """Read all clips at `sample_rate` Hz, by name. Needs the extra `audio`."""
    return {path.stem: read_audio(path, sample_rate) for path in sorted(FOLDER.glob("*.flac"))}
