"""Probes of codes: they find what is there, find nothing where nothing is, and never see the test.

What is planted stands for speech: each letter of a text is a code, or each group likes its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.tiny import prompts as corpus
from bench.tiny.codes import Codes
from bench.tiny.masked import for_nothing
from bench.tiny.prompts import Prompt
from bench.tiny.scores import balanced_accuracy, interval, mean_auc, ratio
from bench.tiny.usage import usage
from w2v_edge.audio import Utterance
from w2v_edge.model.losses import sample_distractors, sampled_contrastive
from w2v_edge.model.random import fresh_seeds
from w2v_edge.training.recordings import is_validation

LETTERS = "abcdefgh "
FRAMES = 3
"""Frames a letter is said for."""


def _prompts(count: int, groups: tuple[str, ...] = ("en",), letters: int = 30) -> list[Prompt]:
    """Return prompts of random words, the share of a tenth held out by name."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        word = " z" * int(rng.integers(2))
        text = corpus.normalised("".join(rng.choice(list(LETTERS), letters)) + word)
        name = f"{groups[i % len(groups)]}/{i}.flac"
        waveform = np.zeros(len(text) * FRAMES, np.float32)
        made.append(
            Prompt(name, groups[i % len(groups)], text, waveform, held_out=is_validation(name, 0.1))
        )
    return made


def _spelled(prompts: list[Prompt]) -> Codes:
    """Return codes that spell the text, each letter by two codes in turn."""
    alphabet = "abcdefghijklmnopqrstuvwxyz '"
    of = {}
    for prompt in prompts:
        letters = [2 * alphabet.index(c) + i % 2 for i, c in enumerate(prompt.text)]
        of[prompt.id] = np.repeat(np.array(letters, np.int64), FRAMES)[:, None]
    return Codes(2 * len(alphabet), of)


def _noise(prompts: list[Prompt], entries: int = 20) -> Codes:
    rng = np.random.default_rng(1)
    of = {x.id: rng.integers(0, entries, (len(x.waveform), 1)) for x in prompts}
    return Codes(entries, of)


def _sklearn() -> None:
    pytest.importorskip("sklearn", reason="probes need scikit-learn: the bench group installs it")


def test_words_are_found_in_codes_that_spell_them_and_nowhere_else() -> None:
    """A planted word has an AUC near 1; without information, and with foreign codes, near 1/2."""
    _sklearn()
    from bench.tiny.words import words_of

    prompts = _prompts(400, letters=12)
    spelled = _spelled(prompts)
    # Each prompt has another prompt's codes: information that belongs to no label.
    others = np.random.default_rng(2).permutation(list(spelled.of))
    shuffled = Codes(
        spelled.entries,
        {x: spelled.of[y] for x, y in zip(spelled.of, others.tolist(), strict=True)},
    )
    subjects = {"spelled": spelled, "shuffled": shuffled}
    result = words_of(subjects, prompts, "en")
    assert result is not None
    assert "z" in result["words"]
    scores = result["scores"]
    assert scores["spelled"]["value"] > 0.9
    assert scores["shuffled"]["low"] < 0.5 < scores["shuffled"]["high"]
    assert result["difference"]["shuffled"]["low"] > 0


def test_groups_are_told_apart_by_codes_of_their_own_alone() -> None:
    """Groups with different codes are separable; groups of equal noise are not."""
    _sklearn()
    from bench.tiny.told_apart import pairs, told_apart

    prompts = _prompts(300, ("en", "es"))
    noise = _noise(prompts)
    shifted = {
        x.id: np.where(noise.of[x.id] < 4, 0, noise.of[x.id]) if x.group == "en" else noise.of[x.id]
        for x in prompts
    }
    (pair,) = pairs({"A": ("en", "es")})
    assert (pair.kind, pair.names) == ("language", ("en", "es"))
    result = told_apart({"own": Codes(20, shifted), "same": noise}, prompts, pair, 30)
    assert result is not None
    assert result["scores"]["own"]["value"] > 0.9
    assert result["scores"]["same"]["low"] < 0.5 < result["scores"]["same"]["high"]


def test_text_is_read_from_codes_that_spell_it_and_not_from_noise() -> None:
    """The probe of characters learns a spelling, and reads next to nothing from noise."""
    pytest.importorskip("jiwer", reason="counts errors: the bench group installs it")
    from bench.tiny.characters import characters_of

    prompts = _prompts(60, letters=10)
    subjects = {"spelled": _spelled(prompts), "noise": _noise(prompts)}
    result = characters_of(subjects, prompts, "en", epochs=20, seeds=1)
    assert result is not None
    assert result["scores"]["spelled"]["value"] < 0.1
    assert result["scores"]["noise"]["value"] > 0.6


def test_the_split_is_that_of_training(tmp_path: Path) -> None:
    """Validation recordings are those of pre-training, and texts of both sides are dropped."""
    soundfile = pytest.importorskip("soundfile")
    lines = ["path\ttext"]
    for i in range(40):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros(1600), 16_000)
        lines.append(f"{i}.wav\ttext {i % 20}")
    (tmp_path / "list.tsv").write_text("\n".join(lines))
    prompts = corpus.read([tmp_path / "list.tsv"], 0.3, 16_000)
    assert {x.id: x.held_out for x in prompts} == {
        f"{i}.wav": is_validation(Utterance(f"{i}.wav", tmp_path).id, 0.3) for i in range(40)
    }
    trained, held_out = corpus.spoken(prompts, tmp_path.name)
    assert trained
    assert not any(x.held_out for x in trained)
    assert all(x.held_out for x in held_out)
    assert not {x.text for x in trained} & {x.text for x in held_out}
    assert 0 < len(held_out) < sum(x.held_out for x in prompts)


def test_clusters_are_fitted_to_the_training_side_alone() -> None:
    """Validation recordings do not change the clusters."""
    _sklearn()
    pytest.importorskip("kaldi_native_fbank", reason="MFCC: the bench group installs it")
    from bench.tiny.mfcc import of_mfcc

    rng = np.random.default_rng(0)
    sounds = [rng.standard_normal(8000).astype(np.float32) * 0.1 for _ in range(6)]
    trained = [Prompt(f"{i}", "g", "", x, held_out=False) for i, x in enumerate(sounds[:3])]
    held_out = [Prompt(f"h{i}", "g", "", x * 9, held_out=True) for i, x in enumerate(sounds[3:])]
    alone, both = (
        of_mfcc(x, entries=4, groups=2, hop_ms=20, sample_rate=16_000)
        for x in (trained, [*trained, *held_out])
    )
    for prompt in trained:
        assert (alone.of[prompt.id] == both.of[prompt.id]).all()
        assert alone.of[prompt.id].shape == (24, 2)


def test_auc_is_the_chance_that_a_pair_is_in_order() -> None:
    """Over all pairs of each word, ties count half, and repeated recordings repeat their pairs."""
    scores = np.array([[3.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    labels = np.array([[True, False, False, True], [True, False, False, False]])
    score = mean_auc(scores, labels)
    assert score.value == pytest.approx(((2 + 0.5) / 4 + 0.5) / 2)
    assert score.statistic(np.array([2.0, 1.0, 1.0, 0.0])) == pytest.approx((1 + 0.5) / 2)
    assert np.isnan(score.statistic(np.array([0.0, 1.0, 1.0, 0.0])))


def test_balanced_accuracy_gives_each_class_one_voice() -> None:
    """A rare class counts as much as a common one."""
    score = balanced_accuracy(
        np.array([[9.0, 0.0], [0.0, 0.0]]), np.array([[9.0, 0.0], [0.0, 1.0]])
    )
    assert score.value == 0.5


def test_intervals_are_those_of_recordings_and_differences_are_paired() -> None:
    """The interval of a mean is about two standard errors; equal scores differ by exactly 0."""
    values = np.random.default_rng(0).standard_normal(400)
    score = ratio(values, np.ones(400))
    found = interval(score)
    error = values.std() / 20
    assert found["value"] == pytest.approx(values.mean(), abs=1e-5)
    assert found["low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert found["high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert interval(score - ratio(values, np.ones(400))) == {"value": 0, "low": 0, "high": 0}


@pytest.mark.parametrize("entries", [1, 2, 50])
def test_chance_is_the_accuracy_of_predictions_that_know_nothing(entries: int) -> None:
    """Chance agrees with the loss under random predictions."""
    torch.manual_seed(0)
    codes = torch.randint(0, entries, (400,))
    # Far apart in direction, as a codebook's rows are.
    targets = torch.randn(entries, 64)[codes]
    accuracies = []
    for _ in range(50):
        distractors = sample_distractors(torch.zeros(400, dtype=torch.long), 10, fresh_seeds(1))
        predictions = torch.randn(400, 64)
        accuracies.append(float(sampled_contrastive(predictions, targets, distractors, 1).accuracy))
    expected = for_nothing(codes.numpy(), np.ones(entries, np.int64), 10).random.mean()
    assert np.mean(accuracies) == pytest.approx(expected, abs=0.01)


def test_frequency_alone_tells_the_most_frequent_code_and_never_the_rarest() -> None:
    """With all codes among the distractors only the first by frequency is right."""
    codes = np.repeat([0, 1, 2], [50, 30, 20])
    torch.manual_seed(0)
    found = for_nothing(codes, np.array([5, 3, 2]), 100).frequent
    assert found[:50].all()
    assert not found[50:].any()


def test_usage_counts_groups_alone_and_together() -> None:
    """Perplexity is exp(entropy); a frame stays the same only if all of its groups do."""
    codes = Codes(4, {"en/0.flac": np.array([[0, 1], [0, 1], [0, 3], [1, 3]])})
    prompt = Prompt("en/0.flac", "en", "", np.zeros(4, np.float32), held_out=True)
    found = usage(codes, [prompt])
    assert [x["in_use"] for x in found["groups"]] == [2, 2]
    assert found["groups"][1]["perplexity"] == pytest.approx(2.0)
    assert found["groups"][0]["most_frequent"] == pytest.approx(0.75)
    assert found["joint"]["in_use"] == 3
    assert found["same_as_frame_before"] == pytest.approx(1 / 3, abs=1e-4)
