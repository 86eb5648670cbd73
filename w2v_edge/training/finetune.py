"""Fine-tuning: a checkpoint learns to transcribe, from recordings with texts.

Source: wav2vec 2.0 (arXiv 2006.11477), section 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from w2v_edge import strict
from w2v_edge.checkpoints import load_source
from w2v_edge.errors import ConfigError, TrainingError
from w2v_edge.model import load_checkpoint, save_checkpoint
from w2v_edge.model.build import build_model
from w2v_edge.model.head_config import CtcHeadConfig
from w2v_edge.model.speech_model import SpeechModel, Wav2Vec2Model
from w2v_edge.text.text_form import TextForm
from w2v_edge.training.batches import ClipData
from w2v_edge.training.ctc import CtcTraining, Example
from w2v_edge.training.distributed import join_processes, open_accelerator
from w2v_edge.training.loop import Trained, train
from w2v_edge.training.recipe import BASE_DIM, Callbacks, LoopOptions, Recipe, finetuning_recipe
from w2v_edge.training.recordings import BadRecordings
from w2v_edge.training.run_folder import Run, RunFolder, data_hash
from w2v_edge.training.spec_augment import SpecAugment
from w2v_edge.training.transcripts import Transcribed, keep_fitting, measure_whole, read_transcripts
from w2v_edge.training.vocabulary import Vocabulary, head_for

SMALL_MODEL_MASKS = SpecAugment(time=0.2, channels=0.1)
"""Masks of models below `base`."""

MAX_FREEZE_UPDATES = 10_000
"""Most updates for which a new head is trained alone, as in the paper; at most half of all."""


@dataclass(frozen=True)
class FinetuneOptions:
    """Options of fine-tuning that are not in the recipe.

    Attributes:
        checkpoint: name of the initial checkpoint.
        train_feature_encoder: whether the convolutions are trained.
        freeze_updates: number of updates for which only the head is trained.
        mask_time: share of the frames in masks; see `SpecAugment`.
        mask_channels: share of the channels in masks.
        language, kind, processor, base, blank: how the checkpoint was read; see `load_source`.
    """

    checkpoint: str
    train_feature_encoder: bool = False
    freeze_updates: int = 0
    mask_time: float = SpecAugment.time
    mask_channels: float = SpecAugment.channels
    language: str | None = None
    kind: str | None = None
    processor: str | None = None
    base: str | None = None
    blank: str | None = None

    @property
    def augment(self) -> SpecAugment:
        """The masks."""
        return SpecAugment(self.mask_time, self.mask_channels)


@dataclass(frozen=True)
class Finetuned:
    """The end of a run of fine-tuning.

    Attributes:
        trained: the end of the training loop.
        examples: transcripts of some recordings of the validation split.
    """

    trained: Trained
    examples: tuple[Example, ...]


def finetune(
    checkpoint: str | Path,
    sources: Sequence[Path],
    output: Path,
    *,
    valid: Sequence[Path] = (),
    overrides: Mapping[str, Any] | None = None,
    task_options: Mapping[str, Any] | None = None,
    new_vocabulary: bool = False,
    read_with: Mapping[str, Any] | None = None,
    resume: bool = False,
    skip_bad: bool = False,
    cpu: bool = False,
    options: LoopOptions = LoopOptions(),  # noqa: B008 - frozen
    callbacks: Callbacks = Callbacks(),  # noqa: B008 - frozen
) -> Finetuned:
    """Fine-tune a model on recordings with texts.

    Args:
        checkpoint: any checkpoint of a transformer that `load_source` reads; a resumed run has its
            own.
        sources: manifests with texts.
        output: folder of the run.
        valid: manifests of the validation split, instead of a fraction of `sources`.
        overrides: values of the recipe that replace the defaults for the model's size.
        task_options: values of `FinetuneOptions` that replace the defaults.
        new_vocabulary: whether to replace the checkpoint's labels by the texts' characters.
        read_with: options of `load_source` for the checkpoint.
        resume: whether to continue the run in `output`.
        skip_bad: whether to leave out files that cannot be read.
        cpu: whether to train on the CPU.
        options: how often to log and save, and the number of workers.
        callbacks: receive progress and warnings.

    Raises:
        InputError: no recordings or texts, or none that fit; `AudioFileError` for an unreadable
            recording.
        CheckpointError: the checkpoint cannot be read.
        ConfigError: a value is out of range, the model cannot have a head, or its vocabulary lacks
            characters.
        OutputExistsError: `output` exists, and `resume` is false.
        TrainingError: nothing to resume, another run, a loss that is not finite, or another process
            failed.
    """
    overrides = overrides or {}
    read_with = read_with or {}
    given = {**(task_options or {}), "checkpoint": Path(checkpoint).name}
    given |= {name: str(value) for name, value in read_with.items()}
    remarks: tuple[str, ...] = ()
    with join_processes(cpu=cpu) as processes:
        with processes.together():
            folder = RunFolder(output)
            if resume:
                model, recipe, chosen = _resume(folder, overrides, given)
                transcripts = read_transcripts(
                    sources,
                    valid,
                    recipe.validation_fraction,
                    callbacks.warn,
                    _text_form(model, new_vocabulary=False),
                )
            else:
                callbacks.show("reading the checkpoint", 0.0)
                source = load_source(checkpoint, **read_with)
                model, remarks = require_head(source.model), source.remarks
                recipe = replace(finetuning_recipe(model.config.context.dim), **overrides)
                transcripts = read_transcripts(
                    sources,
                    valid,
                    recipe.validation_fraction,
                    callbacks.warn,
                    _text_form(model, new_vocabulary=new_vocabulary),
                )
                head = _new_head(model, transcripts, always=new_vocabulary)
                defaults = _defaults(model, recipe, new_head=head is not None)
                chosen = FinetuneOptions(**{**defaults, **given})
                model = prepare_model(
                    model,
                    head,
                    train_feature_encoder=chosen.train_feature_encoder,
                    seed=recipe.seed,
                    callbacks=callbacks,
                )
            callbacks.show("reading headers", 0.0)
            bad = BadRecordings(skip=skip_bad, warn=callbacks.warn)
            vocabulary, warn = Vocabulary.of_model(model.config), callbacks.warn
            clips = measure_whole(transcripts.train, model.config, recipe, bad=bad, warn=warn)
            held_out = transcripts.validation
            if held_out:
                validation = measure_whole(held_out, model.config, recipe, bad=bad, warn=warn)
            else:
                validation = []
            clips = keep_fitting(clips, model.config, vocabulary, warn)
            task = CtcTraining(
                model,
                recipe,
                ClipData(clips, validation, recipe, crop_seconds=math.inf),
                augment=chosen.augment,
                freeze_updates=chosen.freeze_updates,
                bad=bad,
            )
            texts = (
                (x, vocabulary.form.normalise(x.utterance.text or ""))
                for x in (*clips, *validation)
            )
            digest = data_hash((f"{x.utterance.id}\0{text}", x.seconds) for x, text in texts)
            run = Run("finetune", model.config.to_dict(), recipe, digest, asdict(chosen))
            accelerator = open_accelerator(recipe.precision, cpu=cpu)
        with processes.together():
            if processes.is_main and resume:
                folder.resume(run)
            elif processes.is_main:
                folder.begin(run, lambda path: save_checkpoint(model, path))
                for remark in remarks:
                    warn(remark)
                transcripts.report(warn)
        trained = train(
            task, recipe, folder, processes, accelerator, options=options, callbacks=callbacks
        )
        return Finetuned(trained, task.examples)


def require_head(model: SpeechModel) -> Wav2Vec2Model:
    """Return the model as one that can have a head.

    Raises:
        ConfigError: its architecture has no place for a head, as `tutorial`'s.
    """
    if not isinstance(model, Wav2Vec2Model):
        raise ConfigError(
            f"found a model of the architecture {model.config.architecture!r}, which cannot have a "
            "head, expected wav2vec 2.0 or a relative; start with --preset tiny, base or large"
        )
    return model


def prepare_model(
    model: Wav2Vec2Model,
    head: CtcHeadConfig | None,
    *,
    train_feature_encoder: bool,
    seed: int,
    callbacks: Callbacks,
) -> Wav2Vec2Model:
    """Return a model to fine-tune: with its head, without the objective, frozen where needed.

    A quantizer of frozen features stays, frozen: its codes do not change. Others are removed.

    Args:
        model: the model whose weights to take.
        head: configuration of a new head; None keeps the model's own.
        train_feature_encoder: whether the features change.
        seed: of the new head's weights.
        callbacks: receive a warning if the quantizer is removed.
    """
    config = model.config
    keeps_codes = config.quantizer_input == "features" and not train_feature_encoder
    if config.quantizer is not None and not keeps_codes:
        callbacks.warn(
            f"codes are computed from {config.quantizer_input}, which fine-tuning changes: "
            "the fine-tuned model has no quantizer"
        )
    quantizer = config.quantizer if keeps_codes else None
    if head is not None or quantizer != config.quantizer or config.objective is not None:
        target = replace(config, head=head or config.head, quantizer=quantizer, objective=None)
        rebuilt = require_head(build_model(target, seed=seed))
        tensors = rebuilt.state_dict()
        tensors |= {
            name: x
            for name, x in model.state_dict().items()
            if name in tensors and (head is None or not name.startswith("head."))
        }
        rebuilt.load_state_dict(tensors)
        model = rebuilt
    _freeze(model, train_feature_encoder=train_feature_encoder)
    return model


def _freeze(model: Wav2Vec2Model, *, train_feature_encoder: bool) -> None:
    """Freeze the quantizer and, unless it is trained, the feature encoder with its norm.

    The projection that follows the norm can learn all that the norm could, and codes are computed
    from normed features.
    """
    features = () if train_feature_encoder else (model.feature_encoder, model.feature_norm)
    for part in (model.quantizer, *features):
        if part is not None:
            part.requires_grad_(requires_grad=False)


def _resume(
    folder: RunFolder, overrides: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[Wav2Vec2Model, Recipe, FinetuneOptions]:
    """Return the model, recipe and options of a run; the loop restores the weights."""
    begun = folder.read()
    if begun.task != "finetune":
        raise TrainingError(f"{folder.path}: found a run of {begun.task}, expected finetune")
    model = require_head(load_checkpoint(folder.model))
    recipe = replace(begun.recipe, **overrides)
    chosen = replace(strict.from_plain(FinetuneOptions, begun.task_options), **given)
    _freeze(model, train_feature_encoder=chosen.train_feature_encoder)
    return model, recipe, chosen


def _defaults(model: Wav2Vec2Model, recipe: Recipe, *, new_head: bool) -> dict[str, Any]:
    """Return the options for a model's size that differ from the defaults of `FinetuneOptions`.

    Small models need fewer masks: fine-tuned on 18 minutes of English, `tiny` reached a validation
    CER of 0.40 after 1500 updates; with the masks of a large model, from weights of an earlier
    update, 0.51.
    """
    if model.config.context.dim < BASE_DIM:
        masks = SMALL_MODEL_MASKS
        return {"mask_time": masks.time, "mask_channels": masks.channels}
    return {"freeze_updates": min(MAX_FREEZE_UPDATES, recipe.updates // 2) if new_head else 0}


def _text_form(model: Wav2Vec2Model, *, new_vocabulary: bool) -> TextForm | None:
    """Return the form of texts that a model's labels can spell; None without labels to keep."""
    head = model.config.head
    if new_vocabulary or not isinstance(head, CtcHeadConfig) or not head.labels:
        return None
    return Vocabulary(head).form


def _new_head(
    model: Wav2Vec2Model, transcripts: Transcribed, *, always: bool
) -> CtcHeadConfig | None:
    """Return a head for the texts; None if the model's own has all their characters.

    Raises:
        ConfigError: the model's vocabulary lacks characters.
    """
    head = model.config.head
    if always or not isinstance(head, CtcHeadConfig):
        return head_for(transcripts.form.normalise(x.text or "") for x in transcripts.train)
    Vocabulary(head).check_covers(transcripts.texts)
    return None
