"""A run of fine-tuning from end to end: a checkpoint, recordings and their texts in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from w2v_edge import strict
from w2v_edge.checkpoints import load_source
from w2v_edge.errors import TrainingError
from w2v_edge.model import load_checkpoint, save_checkpoint
from w2v_edge.model.config import CtcHeadConfig, TransformerContextConfig
from w2v_edge.model.speech_model import Wav2Vec2Model
from w2v_edge.training.clips import Clip
from w2v_edge.training.finetune import Example, Finetuning
from w2v_edge.training.loop import Pace, Trained, train
from w2v_edge.training.processes import open_accelerator
from w2v_edge.training.recipe import BASE_DIM, Recipe, finetuning_recipe
from w2v_edge.training.run_folder import Run, RunFolder, data_hash
from w2v_edge.training.spec_augment import SpecAugment
from w2v_edge.training.start import Listener
from w2v_edge.training.transcripts import Corpus, fitting, measured, names_and_seconds, read_corpus
from w2v_edge.training.vocabulary import Vocabulary, head_for
from w2v_edge.training.with_head import freeze, prepare, refuse_headless

SMALL = SpecAugment(time=0.2, channels=0.1)
"""Masks of models that are smaller than `base`."""

MOST_FROZEN = 10_000
"""Updates for which a new head is trained alone, as the paper has it; at most half of all."""


@dataclass(frozen=True)
class Options:
    """What decides about fine-tuning beside the recipe.

    Attributes:
        checkpoint: name of what it began with.
        train_feature_encoder: whether the convolutions learn, too.
        freeze_updates: for so many updates the head alone is trained.
        mask_time, mask_channels: see `SpecAugment`.
    """

    checkpoint: str
    train_feature_encoder: bool = False
    freeze_updates: int = 0
    mask_time: float = SpecAugment.time
    mask_channels: float = SpecAugment.channels

    @property
    def augment(self) -> SpecAugment:
        """The masks."""
        return SpecAugment(self.mask_time, self.mask_channels)


@dataclass(frozen=True)
class Finetuned:
    """Where a run ended, and what the model wrote of some recordings that were held out."""

    trained: Trained
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class _Start:
    """What a run begins with, or goes on with."""

    model: Wav2Vec2Model
    recipe: Recipe
    options: Options
    clips: list[Clip]
    held_out: list[Clip]


@dataclass(frozen=True)
class _Asked:
    """What the user asked for; see `finetune`."""

    sources: tuple[Path, ...]
    valid: tuple[Path, ...]
    wishes: Mapping[str, Any]
    options: Mapping[str, Any]
    new_vocabulary: bool
    skip_bad: bool
    listener: Listener

    def corpus(self, recipe: Recipe) -> Corpus:
        """Read the manifests."""
        return read_corpus(self.sources, self.valid, recipe.held_out, self.listener.warn)

    def start(
        self, model: Wav2Vec2Model, recipe: Recipe, options: Options, corpus: Corpus
    ) -> _Start:
        """Measure the recordings, and leave out those that do not fit."""
        warn, config = self.listener.warn, model.config
        self.listener.show("reading headers", 0.0)
        head = config.head
        assert isinstance(head, CtcHeadConfig)
        clips = measured(corpus.trained, config, recipe, skip_bad=self.skip_bad, warn=warn)
        held_out = []
        if corpus.held_out:
            held_out = measured(corpus.held_out, config, recipe, skip_bad=self.skip_bad, warn=warn)
        fit = fitting(clips, config, Vocabulary(head), warn)
        return _Start(model, recipe, options, fit, held_out)


def finetune(
    checkpoint: str | Path,
    sources: Sequence[Path],
    output: Path,
    *,
    valid: Sequence[Path] = (),
    wishes: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    new_vocabulary: bool = False,
    language: str | None = None,
    resume: bool = False,
    skip_bad: bool = False,
    cpu: bool = False,
    pace: Pace = Pace(),  # noqa: B008 - frozen
    listener: Listener = Listener(),  # noqa: B008 - frozen
) -> Finetuned:
    """Fine-tune a model on recordings with texts.

    Args:
        checkpoint: any that `load_source` reads, of a transformer; a resumed run has its own.
        sources: manifests with texts.
        output: folder of the run.
        valid: manifests that are evaluated on, instead of a share of `sources`.
        wishes: fields of the recipe that are to be others.
        options: fields of `Options` that are to be others.
        new_vocabulary: whether the texts' characters become the labels of a head that is there.
        language: to choose a vocabulary by, in a checkpoint with several.
        resume: go on with the run that is there.
        skip_bad: pass over files that cannot be read.
        cpu: stay off GPUs.
        pace: how often to log and save.
        listener: who is told what happens.

    Raises:
        InputError: no recordings or texts, or none that fit; `AudioFileError` for one that is none.
        CheckpointError: a checkpoint that cannot be read.
        ConfigError: a recipe that cannot be, a model that can have no head, or characters that its
            vocabulary lacks.
        OutputExistsError: there is a run, and `resume` is false.
        TrainingError: nothing to resume, another run, or numbers that are none.
    """
    folder = RunFolder(output)
    asked = _Asked(
        tuple(sources),
        tuple(valid),
        wishes or {},
        {**(options or {}), "checkpoint": Path(checkpoint).name},
        new_vocabulary,
        skip_bad,
        listener,
    )
    start = _go_on(folder, asked) if resume else _begin(checkpoint, language, asked)
    task = Finetuning(
        start.model,
        start.recipe,
        start.clips,
        start.held_out,
        augment=start.options.augment,
        freeze_updates=start.options.freeze_updates,
        pass_over=(lambda x: listener.warn(f"passed over: {x}")) if skip_bad else None,
    )
    context = start.model.config.context
    drops = isinstance(context, TransformerContextConfig) and context.layer_drop > 0
    unused = drops or start.options.freeze_updates > 0
    accelerator = open_accelerator(start.recipe.precision, cpu=cpu, unused=unused)
    data = data_hash(names_and_seconds((*start.clips, *start.held_out)))
    config = start.model.config.to_dict()
    run = Run("finetune", config, start.recipe, data, asdict(start.options))
    if accelerator.is_main_process:
        if resume:
            folder.resume(run)
        else:
            folder.begin(run, lambda path: save_checkpoint(start.model, path))
    accelerator.wait_for_everyone()
    trained = train(
        task, start.recipe, folder, accelerator, pace=pace, show=listener.show, warn=listener.warn
    )
    return Finetuned(trained, task.examples)


def _begin(checkpoint: str | Path, language: str | None, asked: _Asked) -> _Start:
    """Read the checkpoint, and give it the head that the texts ask for."""
    asked.listener.show("reading the checkpoint", 0.0)
    model = refuse_headless(load_source(checkpoint, language).model)
    dim = model.config.context.dim
    recipe = replace(finetuning_recipe(dim), **asked.wishes)
    corpus = asked.corpus(recipe)
    new = _new_head(model, corpus, always=asked.new_vocabulary)
    options = Options(**{**_defaults(dim, recipe, new_head=new is not None), **asked.options})
    prepared = prepare(
        model, new, train_feature_encoder=options.train_feature_encoder, seed=recipe.seed
    )
    for remark in prepared.remarks:
        asked.listener.warn(remark)
    return asked.start(prepared.model, recipe, options, corpus)


def _go_on(folder: RunFolder, asked: _Asked) -> _Start:
    """Take up a run; what it has learned is filled in later."""
    begun = folder.read()
    if begun.task != "finetune":
        raise TrainingError(f"{folder.path}: is a run of {begun.task}, not of finetune")
    model = refuse_headless(load_checkpoint(folder.model))
    recipe = replace(begun.recipe, **asked.wishes)
    options = replace(strict.from_plain(Options, begun.task_options), **asked.options)
    freeze(model, train_feature_encoder=options.train_feature_encoder)
    return asked.start(model, recipe, options, asked.corpus(recipe))


def _defaults(dim: int, recipe: Recipe, *, new_head: bool) -> dict[str, Any]:
    """Return the options of a model's size that are not those of `Options`.

    A small network has little to spare: fine-tuned on 18 minutes of English, `tiny` had a CER of
    0.40 on others after 1500 updates; of 0.51 with the masks of a large one, from weights of an
    earlier update.
    """
    if dim < BASE_DIM:
        return {"mask_time": SMALL.time, "mask_channels": SMALL.channels}
    return {"freeze_updates": min(MOST_FROZEN, recipe.updates // 2) if new_head else 0}


def _new_head(model: Wav2Vec2Model, corpus: Corpus, *, always: bool) -> CtcHeadConfig | None:
    """Return a head for the texts; None where the model's own will do.

    Raises:
        ConfigError: it has one, which lacks characters of the texts.
    """
    head = model.config.head
    if always or not isinstance(head, CtcHeadConfig):
        return head_for(x.text or "" for x in corpus.trained)
    Vocabulary(head).refuse_missing(corpus.texts)
    return None
