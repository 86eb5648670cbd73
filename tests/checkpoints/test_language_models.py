"""The language model in a transformers folder: taken on request, said otherwise."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

import w2v_edge
from w2v_edge import BeamSearch
from w2v_edge.bundle import Bundle, CtcInfo, read_manifest
from w2v_edge.checkpoints import load_source
from w2v_edge.errors import BundleError
from w2v_edge.model.head_config import CtcHeadConfig
from w2v_edge.text.spelling import Spelling
from w2v_edge_export.language_model import alphabet_doubts

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [a + b for a in LETTERS for b in "aeiou"]
ENTRIES = [("<unk>", -3), ("<s>", 0), ("</s>", -1), *((word, -2) for word in WORDS)]
ARPA = "\n".join(
    [
        "\\data\\",
        f"ngram 1={len(ENTRIES)}",
        "ngram 2=1",
        "",
        "\\1-grams:",
        *(f"{score}\t{word}\t0" for word, score in ENTRIES),
        "",
        "\\2-grams:",
        "-1\tba be",
        "",
        "\\end\\",
        "",
    ]
)
WEIGHTS: dict[str, Any] = {
    "alpha": 0.6,
    "beta": 1.1,
    "unk_score_offset": -7.0,
    "score_boundary": False,
}


@pytest.fixture
def folder(hf_folder: Callable[[str], Path], write_processor: Any, tmp_path: Path) -> Path:
    """A CTC folder with a language model, as `Wav2Vec2ProcessorWithLM` saves it."""
    path = tmp_path / "asr"
    shutil.copytree(hf_folder("wav2vec2-ctc"), path)
    write_processor(path)
    inner = path / "language_model"
    inner.mkdir()
    (inner / "2gram.arpa").write_text(ARPA)
    (inner / "unigrams.txt").write_text("\n".join(sorted(WORDS)))
    (inner / "attrs.json").write_text(json.dumps(WEIGHTS))
    (path / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n")
    head = load_source(path).model.config.head
    assert isinstance(head, CtcHeadConfig)
    spelled = [{"|": " ", "<pad>": "", "<unk>": "⁇"}.get(x, x) for x in head.labels]
    (path / "alphabet.json").write_text(json.dumps({"labels": spelled, "is_bpe": False}))
    return path


def _remarks(folder: Path, **options: Any) -> str:
    return "\n".join(load_source(folder, **options).remarks)


def test_a_bundle_with_a_language_model(
    folder: Path, command: Any, tmp_path: Path, speech: dict[str, Any]
) -> None:
    """It is in the bundle with its weights and hash, is said with size and licence, and is used."""
    bundle = tmp_path / "bundle"
    code, out, err = command("export", folder, "-o", bundle, "--with-lm")
    assert code == 0, err
    line = next(x for x in out.splitlines() if x.startswith("language model: "))
    for words in ("2gram.arpa", "MB", "alpha 0.6", "beta 1.1", "apache-2.0 (README.md)"):
        assert words in line
    assert "alphabet.json" not in out
    assert "left out" not in out
    manifest = read_manifest(bundle)
    assert manifest.files.keys() >= {"language_model.arpa", "unigrams.txt"}
    model = w2v_edge.load(bundle)
    found = model.language_model
    assert {name: getattr(found, name) for name in WEIGHTS} == WEIGHTS
    clip = speech["en-activated"]
    search = BeamSearch(model.spelling, lm=found, beam_width=10)
    weighed = model.transcribe(clip, decoder=search).text
    without = BeamSearch(model.spelling, lm=found, alpha=0.0, beam_width=10)
    assert set(weighed.split()) & set(WORDS)
    assert weighed != model.transcribe(clip, decoder=without).text
    audio = tmp_path / "clip.wav"
    soundfile.write(audio, clip, 16_000, "FLOAT")
    asked = ("transcribe", bundle, audio, "--lm", "bundle", "--beam-width", "10")
    assert command(*asked)[:2] == (0, weighed + "\n")
    (bundle / "unigrams.txt").write_text("damaged")
    with pytest.raises(BundleError, match=r"unigrams\.txt"):
        _ = w2v_edge.load(bundle).language_model
    with pytest.raises(BundleError):
        Bundle.open(bundle).check_all()


def test_it_is_said_that_one_is_left_out(folder: Path) -> None:
    """Without --with-lm a remark names it and the option; also where it is elsewhere."""
    assert "language_model/2gram.arpa, 0.0 MB" in _remarks(folder)
    assert "--with-lm" in _remarks(folder)
    shutil.rmtree(folder / "language_model")
    assert "language model" not in _remarks(folder)
    processor = folder / "preprocessor_config.json"
    settings = json.loads(processor.read_text()) | {"processor_class": "Wav2Vec2ProcessorWithLM"}
    processor.write_text(json.dumps(settings))
    assert "a language model is left out (the one of a" in _remarks(folder)


def test_what_a_folder_states(folder: Path) -> None:
    """Formats are told by content; weights and licence that are not stated are said."""
    inner = folder / "language_model"
    found = load_source(folder, language_model=True).language_model
    assert found is not None
    assert found.info.file == "language_model.arpa"
    assert found.info.licence == "apache-2.0 (README.md)"
    assert found.remarks == ()
    (inner / "2gram.arpa").rename(inner / "model.klm")
    (inner / "model.klm").write_bytes(gzip.compress(ARPA.encode()))
    (inner / "attrs.json").unlink()
    (inner / "unigrams.txt").unlink()
    (folder / "README.md").write_text("no front matter")
    (inner / "LICENSE").write_text("\nMIT License\n\nCopyright")
    found = load_source(folder, language_model=True).language_model
    assert found is not None
    assert found.info.file == "language_model.arpa.gz"
    assert found.info.licence == "MIT License (LICENSE)"
    assert not found.info.unigrams
    assert (found.info.alpha, found.info.beta) == (0.5, 1.5)
    assert "alpha 0.5, beta 1.5" in found.remarks[0]


def test_what_cannot_be_read(folder: Path, refuses: Callable[..., None]) -> None:
    """Files that KenLM does not read are refused by name, with the way out."""
    inner = folder / "language_model"
    model = inner / "2gram.arpa"
    for head, words in (
        (b"\xfd7zXZ\x00", ("packed by xz", "unpack")),
        (b"\xd6\xfd\xb2\x7e", ("OpenFst",)),
        (b"nonsense", ("KenLM", "leave out --with-lm")),
        (b"", ("KenLM",)),
    ):
        model.write_bytes(head)
        refuses(folder, "2gram.arpa", *words, language_model=True)
    model.write_text(ARPA)
    for weights in ({"alpha": "much"}, {"beta": None}, {"score_boundary": 1}):
        (inner / "attrs.json").write_text(json.dumps(weights))
        refuses(folder, "attrs.json", next(iter(weights)), language_model=True)
    (inner / "attrs.json").write_text(json.dumps(WEIGHTS))
    (inner / "other.bin").write_bytes(b"x")
    refuses(folder, "2 files", "2gram.arpa, other.bin", language_model=True)
    refuses(folder, "no labels", language_model=True, labels=False)
    shutil.rmtree(inner)
    refuses(folder, "found no language model", language_model=True)
    refuses(folder / "model.safetensors", "language model", language_model=True)


def test_an_alphabet_of_other_labels(folder: Path) -> None:
    """Labels that differ from the vocabulary's are named; case and special labels may differ."""
    source = load_source(folder, language_model=True)
    head = source.model.config.head
    assert isinstance(head, CtcHeadConfig)
    assert source.language_model is not None
    alphabet = source.language_model.alphabet
    assert alphabet is not None
    spelling = Spelling.of(head.labels, CtcInfo(head.blank, head.word_delimiter, head.special))
    assert alphabet_doubts(alphabet, spelling) == ()
    assert alphabet_doubts([label.upper() for label in alphabet], spelling) == ()
    (doubt,) = alphabet_doubts([*alphabet[:-1], "ß"], spelling)
    assert f"label {len(alphabet) - 1} is 'ß', in the vocabulary 'z'" in doubt
    (doubt,) = alphabet_doubts(alphabet[:-2], spelling)
    assert "2 labels of the vocabulary" in doubt
    pieces = Spelling.of(("<pad>", "▁he", "llo"), CtcInfo(0, None, ("<pad>",)))
    assert alphabet_doubts(["", "▁he", "llo"], pieces) == ()
