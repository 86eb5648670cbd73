"""A run from end to end: recordings and wishes in, a trained checkpoint out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from w2v_edge.audio import find_utterances
from w2v_edge.errors import AudioFileError, TrainingError
from w2v_edge.model import build_model, load_checkpoint, preset, save_checkpoint
from w2v_edge.model.config import TransformerContextConfig
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.training.clips import Clip, measure
from w2v_edge.training.loop import Pace, Trained, train
from w2v_edge.training.pretrain import Pretraining
from w2v_edge.training.processes import open_accelerator
from w2v_edge.training.recipe import Recipe, pretraining_recipe
from w2v_edge.training.run_folder import Run, RunFolder, data_hash
from w2v_edge.training.shard_files import find_shards, short_name
from w2v_edge.training.shards import ShardPretraining, Shards
from w2v_edge.training.split import is_held_out
from w2v_edge.training.tracking import Show


@dataclass(frozen=True)
class Listener:
    """Who is told what happens.

    Attributes:
        show: what is done, and what share of all.
        warn: what should be known at once, one line.
    """

    show: Show = lambda _what, _done: None
    warn: Callable[[str], None] = lambda _line: None


def pretrain(
    sources: Sequence[str | Path],
    output: Path,
    *,
    name: str = "base",
    init: Path | None = None,
    wishes: Mapping[str, Any] | None = None,
    resume: bool = False,
    skip_bad: bool = False,
    cpu: bool = False,
    pace: Pace = Pace(),  # noqa: B008 - frozen
    listener: Listener = Listener(),
) -> Trained:
    """Pre-train a model on recordings.

    Args:
        sources: audio files, folders of them, manifests; or paths, patterns and URLs of shards.
        output: folder of the run.
        name: of the preset, which also says the recipe.
        init: checkpoint to begin from, instead of random weights of the preset.
        wishes: fields of the recipe that are to be others.
        resume: go on with the run that is there.
        skip_bad: pass over files that cannot be read.
        cpu: stay off GPUs.
        pace: how often to log and save.
        listener: who is told what happens.

    Raises:
        InputError: no recordings, or none long enough; `AudioFileError` for one that is none.
        OutputExistsError: there is a run, and `resume` is false.
        TrainingError: nothing to resume, another run, or numbers that are none.
        ConfigError: a recipe that cannot be, or a model without an objective.
    """
    folder = RunFolder(output)
    begun = folder.read() if resume else None
    model = _model(folder, name, init, wishes or {}, begun)
    recipe = replace(begun.recipe if begun else pretraining_recipe(name), **(wishes or {}))
    shards = _shards(sources, model, recipe, skip_bad, listener)
    task: Pretraining
    if shards is not None:
        task = ShardPretraining(model, recipe, shards)
        data = data_hash((short_name(name), 0.0) for name in shards.names)
    else:
        clips, held_out = _clips(list(map(Path, sources)), model, recipe, skip_bad, listener)
        task = Pretraining(model, recipe, clips, held_out, _pass_over(skip_bad, listener))
        data = _hash(clips, held_out)
    context = model.config.context
    drops = isinstance(context, TransformerContextConfig) and context.layer_drop > 0
    accelerator = open_accelerator(recipe.precision, cpu=cpu, unused=drops)
    options: dict[str, Any] = {}
    if shards is not None:
        shards.refuse_idle(accelerator.num_processes)
        # Each process is at a place of its own in its shards.
        options = {"processes": accelerator.num_processes}
    run = Run("pretrain", model.config.to_dict(), recipe, data, options)
    if accelerator.is_main_process:
        if resume:
            folder.resume(run)
        else:
            folder.begin(run, lambda path: save_checkpoint(model, path))
    accelerator.wait_for_everyone()
    return train(
        task, recipe, folder, accelerator, pace=pace, show=listener.show, warn=listener.warn
    )


def _model(
    folder: RunFolder, name: str, init: Path | None, wishes: Mapping[str, Any], begun: Run | None
) -> SpeechModel:
    """Return the model to begin with; what a resumed run has learned is filled in later."""
    if begun is not None:
        if begun.task != "pretrain":
            raise TrainingError(f"{folder.path}: is a run of {begun.task}, not of pretrain")
        return load_checkpoint(folder.model)
    if init is not None:
        return load_checkpoint(init)
    return build_model(preset(name), seed=wishes.get("seed", 0))


def _shards(
    sources: Sequence[str | Path],
    model: SpeechModel,
    recipe: Recipe,
    skip_bad: bool,
    listener: Listener,
) -> Shards | None:
    """Return the shards that are trained on; None where sources are none."""
    names = find_shards(sources)
    if not names:
        return None
    listener.show("reading the first shard", 0.0)
    rate = model.config.sample_rate
    return Shards(names, rate, recipe, skip_bad=skip_bad, warn=listener.warn)


def _clips(
    sources: Sequence[Path],
    model: SpeechModel,
    recipe: Recipe,
    skip_bad: bool,
    listener: Listener,
) -> tuple[list[Clip], list[Clip]]:
    """Return what is trained on, and what is held out."""
    listener.show("reading headers", 0.0)
    found, bad = measure(
        find_utterances(sources),
        model.config.sample_rate,
        least_seconds=recipe.least_seconds,
        skip_bad=skip_bad,
    )
    for line in bad:
        listener.warn(f"passed over: {line}")
    held_out = [x for x in found if is_held_out(x.utterance.id, recipe.held_out)]
    trained = [x for x in found if not is_held_out(x.utterance.id, recipe.held_out)]
    # Of a few recordings all may be held out by chance, or one alone.
    return (trained, held_out) if trained else (found, [])


def _pass_over(skip_bad: bool, listener: Listener) -> Callable[[AudioFileError], None] | None:
    """Return what is told of a recording that turns out to be damaged."""
    return (lambda error: listener.warn(f"passed over: {error}")) if skip_bad else None


def _hash(clips: Sequence[Clip], held_out: Sequence[Clip]) -> str:
    return data_hash((x.utterance.id, x.seconds) for x in (*clips, *held_out))
