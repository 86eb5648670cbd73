"""Pre-training: the model learns to identify the codes of masked frames among distractors.

Source: wav2vec 2.0 (arXiv 2006.11477), section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from w2v_edge.audio import find_utterances
from w2v_edge.errors import ConfigError, TrainingError
from w2v_edge.model import build_model, load_checkpoint, preset, save_checkpoint
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.pretraining import PretrainingOutput
from w2v_edge.model.quantizer import GumbelVectorQuantizer
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.training.batches import (
    Batch,
    ClipData,
    PlannedBatch,
    Position,
    TrainingData,
    load_batch,
)
from w2v_edge.training.distributed import Processes, join_processes, open_accelerator
from w2v_edge.training.loop import Loss, Metrics, Trained, train
from w2v_edge.training.recipe import Callbacks, LoopOptions, Recipe, pretraining_recipe
from w2v_edge.training.recordings import BadRecordings, is_validation, measure
from w2v_edge.training.run_folder import Run, RunFolder, data_hash
from w2v_edge.training.shard_files import find_shards, short_name
from w2v_edge.training.shards import ShardData

PERPLEXITY = "perplexity/group_"


def pretrain(
    sources: Sequence[str | Path],
    output: Path,
    *,
    preset_name: str = "base",
    init: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    skip_bad: bool = False,
    cpu: bool = False,
    options: LoopOptions = LoopOptions(),  # noqa: B008 - frozen
    callbacks: Callbacks = Callbacks(),  # noqa: B008 - frozen
) -> Trained:
    """Pre-train a model on recordings.

    Args:
        sources: audio files, folders and manifests; or paths, patterns and URLs of shards.
        output: folder of the run.
        preset_name: preset of the model and of the recipe.
        init: checkpoint to start from, instead of random weights of the preset.
        overrides: values of the recipe that replace the preset's.
        resume: whether to continue the run in `output`.
        skip_bad: whether to leave out files that cannot be read.
        cpu: whether to train on the CPU.
        options: how often to log and save, and the number of workers.
        callbacks: receive progress and warnings.

    Raises:
        InputError: no recordings, or none long enough; `AudioFileError` for an unreadable one.
        OutputExistsError: `output` exists, and `resume` is false.
        TrainingError: nothing to resume, another run, a loss that is not finite, or another process
            failed.
        ConfigError: a value of the recipe is out of range, or the model has no objective.
    """
    with join_processes(cpu=cpu) as processes:
        with processes.together():
            folder = RunFolder(output)
            begun = folder.read() if resume else None
            model = _initial_model(folder, preset_name, init, overrides or {}, begun)
            base = begun.recipe if begun else pretraining_recipe(preset_name)
            recipe = replace(base, **(overrides or {}))
            bad = BadRecordings(skip=skip_bad, warn=callbacks.warn)
            data, digest, task_options = _find_data(
                sources, model.config, recipe, bad, processes, callbacks
            )
            task = Pretraining(model, recipe, data, bad)
            run = Run("pretrain", model.config.to_dict(), recipe, digest, task_options)
            accelerator = open_accelerator(recipe.precision, cpu=cpu)
        with processes.together():
            if processes.is_main and resume:
                folder.resume(run)
            elif processes.is_main:
                folder.begin(run, lambda path: save_checkpoint(model, path))
        return train(
            task, recipe, folder, processes, accelerator, options=options, callbacks=callbacks
        )


class Pretraining:
    """The pre-training task; see `TrainingTask`.

    Attributes:
        model: the model to save.
    """

    def __init__(
        self, model: SpeechModel, recipe: Recipe, data: TrainingData, bad: BadRecordings
    ) -> None:
        """Take a model with a pre-training objective.

        Args:
            model: in either mode.
            recipe: the hyperparameters.
            data: plans the batches.
            bad: handles recordings that cannot be read.

        Raises:
            ConfigError: the model has no objective.
        """
        if model.config.objective is None or model.quantizer is None:
            raise ConfigError(
                "found a model without a pre-training objective (no quantizer, or no masking), "
                "expected one with; choose a preset, or --init from a pre-trained checkpoint"
            )
        self.model, self._recipe, self._data, self._bad = model, recipe, data, bad

    @property
    def module(self) -> nn.Module:
        """The module to run: the model."""
        return self.model

    def plan(self, start: Position, rank: int, world_size: int) -> Iterator[PlannedBatch]:
        """See `TrainingTask.plan`."""
        return self._data.plan(start, rank, world_size)

    def load(self, planned: PlannedBatch) -> Batch:
        """See `TrainingTask.load`."""
        return load_batch(planned, self.model.config.sample_rate, self._recipe.seed, self._bad)

    def loss(self, module: nn.Module, batch: Batch, update: int, device: torch.device) -> Loss:
        """See `TrainingTask.loss`."""
        output = _run(module, batch, update, device)
        metrics = {
            "loss": output.loss,
            "contrastive": output.contrastive,
            "diversity": output.diversity,
            "feature_penalty": output.feature_penalty,
            "accuracy": output.accuracy,
            "masked": output.masked,
            **{f"{PERPLEXITY}{i}": x for i, x in enumerate(output.code_perplexity)},
            **{f"soft_perplexity/group_{i}": x for i, x in enumerate(output.usage_perplexity)},
        }
        quantizer = self.model.quantizer
        if isinstance(quantizer, GumbelVectorQuantizer):
            metrics["temperature"] = torch.tensor(quantizer.config.temperature.at(update))
        return Loss(output.loss, output.masked, metrics)

    def evaluate(self, processes: Processes, device: torch.device) -> Metrics:
        """Return loss, accuracy and perplexity of the hard codes on the validation split.

        The masks are the same every time.
        """
        self.model.eval()
        sums: dict[str, float] = {}
        masked = 0.0
        for planned in self._data.plan_validation(processes.rank, processes.world_size):
            with processes.together():
                batch = self.load(planned)
            with torch.no_grad():
                output = _run(self.model, batch, self._recipe.updates, device)
            weight = float(output.masked)
            masked += weight
            metrics = {
                "contrastive": output.contrastive,
                "accuracy": output.accuracy,
                **{f"{PERPLEXITY}{i}": x for i, x in enumerate(output.code_perplexity)},
            }
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0.0) + weight * float(value)
        return {f"validation/{name}": value / max(1.0, masked) for name, value in sums.items()}

    def code_perplexities(self, metrics: Metrics) -> Metrics:
        """Return the perplexity of each group's codes."""
        return {name: x for name, x in metrics.items() if name.startswith(PERPLEXITY)}


def _run(module: nn.Module, batch: Batch, update: int, device: torch.device) -> PretrainingOutput:
    """Run a batch; lengths and seeds stay on the CPU, where masks are drawn."""
    output: PretrainingOutput = module(
        torch.from_numpy(batch.waveform).to(device, non_blocking=True),
        torch.from_numpy(batch.lengths),
        update=update,
        seeds=torch.from_numpy(batch.seeds),
    )
    return output


def _initial_model(
    folder: RunFolder,
    preset_name: str,
    init: Path | None,
    overrides: Mapping[str, Any],
    begun: Run | None,
) -> SpeechModel:
    """Return the model to start with; the loop restores the weights of a resumed run."""
    if begun is not None:
        if begun.task != "pretrain":
            raise TrainingError(f"{folder.path}: found a run of {begun.task}, expected pretrain")
        return load_checkpoint(folder.model)
    if init is not None:
        return load_checkpoint(init)
    return build_model(preset(preset_name), seed=overrides.get("seed", 0))


def _find_data(
    sources: Sequence[str | Path],
    config: ModelConfig,
    recipe: Recipe,
    bad: BadRecordings,
    processes: Processes,
    callbacks: Callbacks,
) -> tuple[TrainingData, str, dict[str, Any]]:
    """Return the training data, its hash, and what a resumed run must have the same."""
    shards = find_shards(sources)
    if shards:
        callbacks.show("reading the first shard", 0.0)
        data = ShardData(shards, config.sample_rate, recipe, bad)
        data.check_world_size(processes.world_size)
        digest = data_hash((short_name(shard), 0.0) for shard in shards)
        # Each process has a position of its own.
        return data, digest, {"processes": processes.world_size}
    callbacks.show("reading headers", 0.0)
    utterances = find_utterances(list(map(Path, sources)))
    clips = measure(utterances, config.sample_rate, min_seconds=recipe.min_seconds, bad=bad)
    fraction = recipe.validation_fraction
    validation = [x for x in clips if is_validation(x.utterance.id, fraction)]
    training = [x for x in clips if not is_validation(x.utterance.id, fraction)]
    if not training:
        # Few recordings may all be in the validation split, by chance.
        training, validation = clips, []
    digest = data_hash((x.utterance.id, x.seconds) for x in (*training, *validation))
    return ClipData(training, validation, recipe, crop_seconds=recipe.crop_seconds), digest, {}
