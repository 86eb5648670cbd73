"""Sentences spoken by free synthetic voices: audio and a manifest a voice.

    python -m bench.synthetic.voices sentences.tsv flite:rms flite:slt --count 2500 -o spoken

Each voice reads other sentences. The programs are Debian's: flite (voices kal16, awb, rms and slt:
free for any use, by Carnegie Mellon University), festival (festvox-kallpc16k, -kdlpc16k and
-us-slt-hts: the same, and the University of Edinburgh), and espeak-ng (a program under the GPL,
which does not extend to what it says). Kokoro is in
`bench.synthetic.kokoro`.
"""

from __future__ import annotations

import argparse
import random
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from bench.tiny.prompts import normalised

SLOWEST, FASTEST = 0.8, 1.25
"""Range of the duration of a sentence, relative to the voice's own."""

ESPEAK_VARIANTS = ("", *(f"+m{i}" for i in range(1, 9)), *(f"+f{i}" for i in range(1, 6)))


class Voice(ABC):
    """A synthetic voice.

    Attributes:
        name: of the voice, as its program names it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def speak(self, said: Sequence[tuple[str, Path]], rng: random.Random) -> None:
        """Write a WAV file for each text, at any sample rate."""


class Flite(Voice):
    """A voice of flite."""

    def speak(self, said: Sequence[tuple[str, Path]], rng: random.Random) -> None:
        """See `Voice.speak`."""
        for text, path in said:
            stretch = f"duration_stretch={rng.uniform(SLOWEST, FASTEST):.2f}"
            _run("flite", "-voice", self.name, "--setf", stretch, "-t", text, "-o", str(path))


class Espeak(Voice):
    """An accent of espeak-ng, in another variant and pitch for each sentence."""

    def speak(self, said: Sequence[tuple[str, Path]], rng: random.Random) -> None:
        """See `Voice.speak`."""
        for text, path in said:
            variant = self.name + rng.choice(ESPEAK_VARIANTS)
            speed, pitch = str(rng.randint(125, 200)), str(rng.randint(25, 75))
            _run("espeak-ng", "-v", variant, "-s", speed, "-p", pitch, "-w", str(path), text)


class Festival(Voice):
    """A voice of festival, in one process: it takes long to start."""

    def speak(self, said: Sequence[tuple[str, Path]], rng: random.Random) -> None:
        """See `Voice.speak`."""
        lines = [f"(voice_{self.name})"]
        for text, path in said:
            lines.append(f"(Parameter.set 'Duration_Stretch {rng.uniform(SLOWEST, FASTEST):.2f})")
            spoken = f'(utt.synth (Utterance Text "{_quoted(text)}"))'
            lines.append(f'(utt.save.wave {spoken} "{path}" \'riff)')
        _run("festival", "--pipe", script="\n".join(lines))


ENGINES: dict[str, type[Voice]] = {
    "flite": Flite,
    "espeak": Espeak,
    "festival": Festival,
}


def read_aloud(sentences: Sequence[str], voice: Voice, folder: Path, seed: int) -> Path:
    """Have a voice say sentences; returns a manifest of what was written, which may be less."""
    folder.mkdir(parents=True, exist_ok=True)
    said = [(text, folder / f"{i}.wav") for i, text in enumerate(sentences)]
    voice.speak([x for x in said if not x[1].exists()], random.Random(seed))  # noqa: S311
    rows = [f"{path.name}\t{normalised(text)}" for text, path in said if path.exists()]
    manifest = folder / "manifest.tsv"
    manifest.write_text("".join(f"{row}\n" for row in ("path\ttext", *rows)), "utf-8")
    return manifest


def _run(*command: str, script: str = "") -> None:
    nothing = subprocess.DEVNULL
    subprocess.run(command, input=script, text=True, check=True, stdout=nothing, stderr=nothing)  # noqa: S603


def _quoted(text: str) -> str:
    """Return a text without what would end a string of Scheme."""
    return text.replace("\\", " ").replace('"', " ")


def main() -> None:
    """Read sentences aloud, in the order given."""
    parser = argparse.ArgumentParser(prog="python -m bench.synthetic.voices")
    parser.add_argument("sentences", type=Path, help="table with the column `text`")
    parser.add_argument("voice", nargs="+", metavar="ENGINE:VOICE")
    parser.add_argument("--first", type=int, default=0, help="number of the first sentence")
    parser.add_argument("--count", type=int, required=True, help="sentences of a voice")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    sentences = given.sentences.read_text("utf-8").splitlines()[1 + given.first :]
    for number, name in enumerate(given.voice):
        engine, _, voice = name.partition(":")
        own = sentences[number * given.count : (number + 1) * given.count]
        folder = given.output / f"{engine}-{voice}"
        print(read_aloud(own, ENGINES[engine](voice), folder, seed=given.first + number))


if __name__ == "__main__":
    main()
