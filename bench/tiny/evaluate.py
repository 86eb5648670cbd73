"""Evaluation of a pre-trained checkpoint: masked prediction, code usage, and probes of its codes.

    python -m bench.tiny.evaluate CHECKPOINT SOURCE... [-o bench/results/tiny.json]

Measured on the held-out recordings of pre-training. Probes read words, characters, speakers and
languages from codes. The checkpoint is compared with the same network with random weights, k-means
over MFCC, and no codes. Prints one JSON document; `python -m bench.tiny.report` formats it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from bench.peers import hardware
from bench.tiny import characters, masked, mfcc, scores, told_apart, words
from bench.tiny import prompts as corpus
from bench.tiny.codes import Codes, of_model
from bench.tiny.document import give
from bench.tiny.prompts import Prompt
from bench.tiny.report import FORMAT
from bench.tiny.usage import usage
from w2v_edge.errors import InputError, W2VEdgeError
from w2v_edge.model import SpeechModel, build_model, load_checkpoint

CHECKPOINT, RANDOM, MFCC_LIKE, MFCC_ONE, NOTHING = (
    "checkpoint",
    "random weights",
    "MFCC, as many codebooks",
    "MFCC, one codebook",
    "no codes",
)
PACKAGES = ("scikit-learn", "scipy", "kaldi-native-fbank", "jiwer")


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of the evaluation.

    Attributes:
        held_out: share of the recordings that pre-training held out.
        draws: of masks, for masked prediction.
        random_seed: of the random weights.
        characters: the group whose text is read; None for the first one with a text.
        epochs, probe_seeds: of the probe that reads it, for each codes.
        speakers: the groups of each speaker.
    """

    held_out: float
    draws: int
    random_seed: int
    characters: str | None
    epochs: int
    probe_seeds: int
    speakers: Mapping[str, tuple[str, ...]]


def main() -> None:
    """Measure, and print or write one JSON document."""
    parser = _parser()
    given = parser.parse_args()
    settings = EvaluationSettings(
        held_out=given.held_out,
        draws=given.draws,
        random_seed=given.random_seed,
        characters=given.characters,
        epochs=given.epochs,
        probe_seeds=given.probe_seeds,
        speakers=dict(given.speaker),
    )
    try:
        result = evaluate(given.checkpoint, given.source, settings)
    except W2VEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    give(result, given.output)


def evaluate(
    checkpoint: Path, sources: Sequence[Path], settings: EvaluationSettings
) -> dict[str, Any]:
    """Measure everything.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        InputError: the checkpoint has no codes or objective, or the recordings do not suffice.
    """
    begin, machine = time.perf_counter(), _machine()
    model = load_checkpoint(checkpoint)
    if model.quantizer is None or model.config.objective is None or model.config.masking is None:
        raise InputError(
            f"{checkpoint}: found no quantizer or no pre-training objective, expected both; "
            "name a checkpoint of pre-training"
        )
    random = build_model(model.config, seed=settings.random_seed).eval()
    prompts = corpus.read(sources, settings.held_out, model.config.sample_rate)
    speakers = _speakers(prompts, settings)
    _say(f"{len(prompts)} recordings")
    subjects = _subjects(model, random, prompts)
    held_out = [x for x in prompts if x.held_out]
    return {
        "format": FORMAT,
        "version": 1,
        "checkpoint": checkpoint.name,
        "parameters": sum(x.numel() for x in model.parameters()),
        "config": model.config.to_dict(),
        "settings": _settings(settings, speakers),
        "hardware": machine,
        "corpus": _corpus(prompts, model.config.sample_rate),
        "masked_prediction": _masked(model, random, subjects, held_out, settings.draws),
        "usage": {name: usage(codes, held_out) for name, codes in subjects.items()},
        "words": _words(subjects, prompts),
        "told_apart": _told_apart(model, subjects, prompts, speakers),
        "characters": _characters(subjects, prompts, settings),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def _subjects(
    model: SpeechModel, random: SpeechModel, prompts: Sequence[Prompt]
) -> dict[str, Codes]:
    """Return all compared codes, the checkpoint's first."""
    learned = of_model(model, prompts)
    _say("codes of the checkpoint")
    rate = model.config.sample_rate
    clusters = mfcc.of_mfcc(
        prompts,
        entries=learned.entries,
        groups=learned.groups,
        hop_ms=1000 * model.config.geometry.hop / rate,
        sample_rate=rate,
    )
    _say("codes of MFCC")
    return {
        CHECKPOINT: learned,
        RANDOM: of_model(random, prompts),
        MFCC_LIKE: clusters,
        MFCC_ONE: clusters.first_group(),
        NOTHING: learned.silenced(),
    }


def _masked(
    model: SpeechModel,
    random: SpeechModel,
    subjects: Mapping[str, Codes],
    held_out: Sequence[Prompt],
    draws: int,
) -> dict[str, Any]:
    sides = {CHECKPOINT: model, RANDOM: random}
    made = {
        name: masked.masked_prediction(side, subjects[name], held_out, draws)
        for name, side in sides.items()
    }
    _say("masked prediction")
    return {
        "nominal_chance": masked.nominal_chance(model),
        **{
            name: {figure: scores.interval(score) for figure, score in figures.items()}
            for name, figures in made.items()
        },
    }


def _words(subjects: Mapping[str, Codes], prompts: Sequence[Prompt]) -> dict[str, Any]:
    made = {x: words.words_of(subjects, prompts, x) for x in corpus.groups(prompts)}
    _say("words")
    return {group: result for group, result in made.items() if result}


def _told_apart(
    model: SpeechModel,
    subjects: Mapping[str, Codes],
    prompts: Sequence[Prompt],
    speakers: Mapping[str, tuple[str, ...]],
) -> list[dict[str, Any]]:
    config = model.config
    frames = round(told_apart.PIECE_SECONDS * config.sample_rate / config.geometry.hop)
    made = [
        told_apart.told_apart(subjects, prompts, pair, frames)
        for pair in told_apart.pairs(speakers)
    ]
    _say("voices and languages")
    return [x for x in made if x]


def _characters(
    subjects: Mapping[str, Codes], prompts: Sequence[Prompt], settings: EvaluationSettings
) -> dict[str, Any] | None:
    group = settings.characters or min((x.group for x in prompts if x.text), default=None)
    if group is None:
        return None
    epochs, seeds = settings.epochs, settings.probe_seeds
    made = characters.characters_of(subjects, prompts, group, epochs=epochs, seeds=seeds)
    _say("characters")
    return made


def _speakers(
    prompts: Sequence[Prompt], settings: EvaluationSettings
) -> dict[str, tuple[str, ...]]:
    """Return the groups of each speaker; by default each group is a speaker."""
    known = corpus.groups(prompts)
    asked = {x for own in settings.speakers.values() for x in own}
    asked |= {settings.characters} if settings.characters else set()
    for group in sorted(asked - set(known)):
        raise InputError(
            f"found no recording of the group {group!r}, expected one of {', '.join(known)}; "
            "a group is the first folder of a recording's name"
        )
    return dict(settings.speakers) or {group: (group,) for group in known}


def _corpus(prompts: Sequence[Prompt], sample_rate: int) -> dict[str, Any]:
    """Return the number of recordings and minutes of each group and split."""

    def size(chosen: Sequence[Prompt]) -> dict[str, float]:
        samples = sum(len(x.waveform) for x in chosen)
        return {"recordings": len(chosen), "minutes": round(samples / sample_rate / 60, 2)}

    return {
        group: {
            "trained_on": size([x for x in prompts if x.group == group and not x.held_out]),
            "held_out": size([x for x in prompts if x.group == group and x.held_out]),
        }
        for group in corpus.groups(prompts)
    }


def _settings(
    settings: EvaluationSettings, speakers: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    given = {name: value for name, value in vars(settings).items() if name != "speakers"}
    fixed = {"resamples": scores.RESAMPLES, "level": scores.LEVEL}
    return {**given, **fixed, "speakers": {name: list(own) for name, own in speakers.items()}}


def _machine() -> dict[str, Any]:
    made = hardware.describe()
    used = {x: metadata.version(x) for x in PACKAGES}
    return {**made, "packages": {**made["packages"], **used}, "threads": torch.get_num_threads()}


def _speaker(text: str) -> tuple[str, tuple[str, ...]]:
    """Read NAME=GROUP,GROUP."""
    name, _, own = text.partition("=")
    if not name or not own:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected NAME=GROUP,GROUP")
    return name, tuple(own.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.tiny.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="with a quantizer and a pre-training objective")
    add("source", type=Path, nargs="+", help="manifests with texts, or folders of audio")
    add("--held-out", type=float, default=0.1, help="as in pre-training (default: 0.1)")
    add("--draws", type=int, default=5, help="of masks (default: 5)")
    add("--random-seed", type=int, default=1234, help="of the random weights (default: 1234)")
    add("--characters", metavar="GROUP", help="whose text is read (default: the first with one)")
    add("--epochs", type=int, default=20, help="of the probe that reads characters (default: 20)")
    add("--probe-seeds", type=int, default=1, help="probes of characters a side (default: 1)")
    add(
        "--speaker",
        type=_speaker,
        action="append",
        default=[],
        metavar="NAME=GROUP,GROUP",
        help="who speaks in which groups; can be repeated (default: each group is a speaker)",
    )
    add("-o", "--output", type=Path, help="write JSON here instead of printing it")
    return parser


def _say(done: str) -> None:
    print(f"{done} done", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
