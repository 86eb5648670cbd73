"""Variants of recordings: another speaker, room, line and noise for each.

    python -m bench.synthetic.variants spoken/*/manifest.tsv -o variants --copies 2

A synthetic voice says a sound the same way each time. A change of speed moves its pitch and its
formants, a room, a line and noise change its spectrum: a model learns what is common to all.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from w2v_edge.audio import Waveform, find_utterances, read_audio

RATE = 16_000
Floats = npt.NDArray[np.float64]
BANDS = np.array([60, 150, 300, 600, 1200, 2400, 4000, 5500, 8000])
"""Frequencies in Hz at which the response of a line is drawn."""


def variant(waveform: Waveform, rng: np.random.Generator) -> Waveform:
    """Return a recording (samples,) at 16 kHz as if said by another speaker, elsewhere."""
    x = _trimmed(waveform).astype(np.float64)
    x = _faster(x, rng.uniform(0.84, 1.2))
    if rng.random() < 0.5:
        x = _in_a_room(x, rng)
    if rng.random() < 0.7:
        x = _over_a_line(x, rng)
    speech = float(np.sqrt(np.mean(x**2)))
    x = np.pad(x, rng.integers(0, RATE // 4, 2))
    x = x + _noise(len(x), rng) * speech * 10 ** (-rng.uniform(8, 45) / 20)
    peak = max(1e-9, float(np.abs(x).max()))
    return (x / peak * rng.uniform(0.1, 0.95)).astype(np.float32)


def _trimmed(x: Waveform) -> Waveform:
    """Return a recording without silence at its ends, up to 50 ms."""
    loud = np.flatnonzero(np.abs(x) > 0.01 * np.abs(x).max(initial=0))
    margin = RATE // 20
    return x[max(0, loud[0] - margin) : loud[-1] + margin] if len(loud) else x


def _faster(x: Floats, factor: float) -> Floats:
    """Return a recording as if played faster by a factor, without aliases."""
    length = max(1, round(len(x) / factor))
    return np.fft.irfft(np.fft.rfft(x), length) * (length / len(x))


def _in_a_room(x: Floats, rng: np.random.Generator) -> Floats:
    """Add reverberation: noise that falls by 60 dB in 50 to 350 ms."""
    length = int(RATE * rng.uniform(0.05, 0.35))
    response = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    response *= rng.uniform(0.02, 0.25)
    response[0] = 1
    size = len(x) + length
    return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(response, size), size)[: len(x)]


def _over_a_line(x: Floats, rng: np.random.Generator) -> Floats:
    """Filter by a smooth random response, at times with the limits of a telephone."""
    hertz = np.fft.rfftfreq(len(x), 1 / RATE)
    decibels = np.interp(np.log(np.maximum(hertz, 60)), np.log(BANDS), rng.normal(0, 4, len(BANDS)))
    response = 10 ** (decibels / 20)
    if rng.random() < 0.35:
        response /= 1 + (hertz / rng.uniform(3200, 7000)) ** 8
    if rng.random() < 0.35:
        response /= 1 + (rng.uniform(80, 300) / np.maximum(hertz, 1)) ** 4
    return np.fft.irfft(np.fft.rfft(x) * response, len(x))


def _noise(length: int, rng: np.random.Generator) -> Floats:
    """Return noise of unit power, from rumble to hiss."""
    hertz = np.maximum(np.fft.rfftfreq(length, 1 / RATE), 50)
    spectrum = np.fft.rfft(rng.standard_normal(length)) * (hertz / 1000) ** rng.uniform(-1, 1)
    noise = np.fft.irfft(spectrum, length)
    return noise / max(1e-9, float(np.sqrt(np.mean(noise**2))))


def write(manifests: list[Path], output: Path, copies: int) -> Iterator[str]:
    """Write variants of all recordings; yields their paths and texts."""
    for number, utterance in enumerate(find_utterances(manifests)):
        waveform = read_audio(utterance.path, RATE)
        for copy in range(copies):
            # The number tells recordings of one name in several folders apart.
            name = f"{utterance.path.parent.name}-{utterance.path.stem}-{number}-{copy}.wav"
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            if len(waveform) > RATE // 3:
                soundfile.write(output / name, variant(waveform, rng), RATE, subtype="PCM_16")
                yield f"{name}\t{utterance.text}"


def main() -> None:
    """Write variants and their manifest."""
    parser = argparse.ArgumentParser(prog="python -m bench.synthetic.variants")
    parser.add_argument("manifest", type=Path, nargs="+")
    parser.add_argument("--copies", type=int, default=1, help="variants of each (default: 1)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    rows = ["path\ttext", *write(given.manifest, given.output, given.copies)]
    (given.output / "manifest.tsv").write_text("".join(f"{x}\n" for x in rows), "utf-8")


if __name__ == "__main__":
    main()
