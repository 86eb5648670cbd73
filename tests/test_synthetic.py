"""Synthetic speech for training: sentences, voices, variants, and error rates on real voices."""

# ruff: noqa: RUF001 - phonetic letters are meant.

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench.synthetic.kokoro import kokoro_symbols
from bench.synthetic.network import small_conformer
from bench.synthetic.readable import error_rate, readable
from bench.synthetic.sentences import commands, mixed, verses, wordnet
from bench.synthetic.sentences import readable as can_be_read
from bench.synthetic.variants import RATE, variant, write
from bench.synthetic.voices import Voice, read_aloud
from w2v_edge.audio import find_utterances
from w2v_edge.data import FOLDER, TINY
from w2v_edge.errors import InputError
from w2v_edge.model import build_model

WORDNET = """\
  1 This software and database is "provided to you as it is" by its authors
00001740 03 n 01 entity 0 003 | what exists; "there was too much to do"; "a unit"
"""
VERSES = """\
Genesis 1:3: God <H0430> said <H0559>, “Let <H1961> there be light,” and there was light.
"""


def test_sentences_are_examples_without_licence_and_fragments(tmp_path: Path) -> None:
    """Of WordNet's files the examples of three words are taken, nothing of the licence."""
    (tmp_path / "data.noun").write_text(WORDNET)
    assert list(wordnet(tmp_path)) == ["there was too much to do"]


def test_verses_lose_their_numbers_and_marks() -> None:
    """A verse is its words alone."""
    assert list(verses(VERSES)) == ["God said, “Let there be light,” and there was light."]


@pytest.mark.parametrize(
    "text", ["too short", "the year 1984 was a long one", "x" * 80, "hmmm, I see it"]
)
def test_what_cannot_be_spelled_as_it_is_said_is_left_out(text: str) -> None:
    """Digits, long and short sentences are left out."""
    assert not can_be_read(text)


def test_sentences_are_distinct_and_from_all_sources() -> None:
    """Each sentence comes once, whatever its punctuation; the mixture ends with a source."""
    sources = {
        "wordnet": ["it was full of rackets", "It was full of rackets!", "the team is a unit"],
        "verses": [f"let there be {x} and warmth" for x in ("light", "rain", "song", "trees")],
        "commands": list(commands(50, random.Random(0))),  # noqa: S311
    }
    found = list(mixed(sources, random.Random(0)))  # noqa: S311
    assert len(found) == len({x.lower().strip("!") for x in found})
    assert {"the team is a unit", "let there be light and warmth"} & set(found)
    assert all(can_be_read(x) for x in found)


class Beep(Voice):
    """Says nothing of a text but its length; fails to say `mute`."""

    def speak(self, said: Sequence[tuple[str, Path]], rng: random.Random) -> None:
        """Write a tone of 50 ms a character."""
        for text, path in said:
            tone = np.sin(np.arange(len(text) * RATE // 20) * rng.uniform(0.1, 0.2))
            if text != "mute":
                soundfile.write(path, tone, RATE)


def test_a_manifest_has_what_a_voice_said(tmp_path: Path) -> None:
    """Texts are normalised; a sentence that was not said is not in the manifest."""
    manifest = read_aloud(["Hello, you there!", "mute"], Beep("beep"), tmp_path, seed=0)
    (found,) = find_utterances([manifest])
    assert found.text == "hello you there"
    assert found.path == tmp_path / "0.wav"


def test_variants_differ_and_are_the_same_each_time(tmp_path: Path) -> None:
    """Copies differ in length and spectrum, stay within full scale, and can be made again."""
    spoken = tmp_path / "beep"
    manifest = read_aloud(["how do you do my dear"], Beep("beep"), spoken, seed=0)
    first, second = (list(write([manifest], tmp_path, copies=2)) for _ in range(2))
    assert first == second
    made = [soundfile.read(tmp_path / row.split("\t")[0])[0] for row in first]
    assert len(made) == 2
    assert len(made[0]) != len(made[1])
    assert all(0.05 < np.abs(x).max() <= 1 for x in made)
    assert all(row.endswith("\thow do you do my dear") for row in first)


def test_variants_of_silence_are_finite() -> None:
    """Nothing is divided by zero."""
    found = variant(np.zeros(RATE, np.float32), np.random.default_rng(0))
    assert np.isfinite(found).all()


def test_symbols_follow_the_accent() -> None:
    """Kokoro has one symbol for a diphthong, and no long vowels in American English."""
    assert kokoro_symbols("ɡˈoʊ bˈɜːd", british=False) == "ɡˈO bˈɜɹd"
    assert kokoro_symbols("ɡˈəʊ bˈɜːd", british=True) == "ɡˈQ bˈɜːd"


def test_the_network_fits_a_package() -> None:
    """In int8 it takes 3 MB."""
    parameters = sum(x.numel() for x in build_model(small_conformer()).parameters())
    assert 2e6 < parameters < 3e6


def test_error_rates_count_characters_of_all_recordings() -> None:
    """Long recordings weigh more than short ones."""
    said, written = ["abcd efghi", "no"], ["abcd efghi", ""]
    assert error_rate(said, written, "cer").value == pytest.approx(2 / 12)
    assert error_rate(said, written, "wer").value == pytest.approx(1 / 3)


def test_a_checkpoint_without_letters_is_refused() -> None:
    """The shipped model has codes, and no labels."""
    with pytest.raises(InputError, match="no labels"):
        readable({"tiny": TINY}, {"prompts": FOLDER / "clips.tsv"})
