"""Connectionist temporal classification (CTC, Graves et al. 2006): objective and training task."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from w2v_edge.errors import ConfigError, MissingExtraError
from w2v_edge.model.collective import all_reduce_sum
from w2v_edge.model.head_config import LOGITS, CtcHeadConfig
from w2v_edge.model.heads import CtcHead
from w2v_edge.model.padding import Frames, frame_lengths, valid_steps
from w2v_edge.model.speech_model import Wav2Vec2Model
from w2v_edge.training.batches import Batch, ClipData, PlannedBatch, Position, load_batch
from w2v_edge.training.distributed import Processes
from w2v_edge.training.loop import Loss, Metrics
from w2v_edge.training.recipe import Recipe
from w2v_edge.training.recordings import BadRecordings
from w2v_edge.training.spec_augment import SpecAugment, apply_masks
from w2v_edge.training.vocabulary import Vocabulary

EXAMPLES = 3
"""Transcripts of the validation split that are kept."""


class CtcOutput(NamedTuple):
    """The result of a batch.

    Attributes:
        loss: nats per label, over all processes; scalar.
        labels: number of labels, over all processes; scalar.
        blank: share of the frames whose best label is the blank, over all processes; scalar.
        logits: (b, n, labels) float32 of this process, without gradient.
        frames: (b,) valid frames, on the CPU.
    """

    loss: Tensor
    labels: Tensor
    blank: Tensor
    logits: Tensor
    frames: Tensor


class CtcObjective(nn.Module):
    """The CTC loss of a model, with SpecAugment in training mode."""

    def __init__(self, model: Wav2Vec2Model, augment: SpecAugment) -> None:
        """Wrap a model.

        Args:
            model: a model with a CTC head.
            augment: the masks.

        Raises:
            ConfigError: the model has no CTC head.
        """
        super().__init__()
        head, config = model.head, model.config.head
        if not isinstance(head, CtcHead) or not isinstance(config, CtcHeadConfig):
            raise ConfigError("found a model without a CTC head, expected one with")
        self.model, self.augment = model, augment
        self._head, self._blank = head, config.blank

    def train(self, mode: bool = True) -> CtcObjective:
        """Set the mode; batch norm, in some HuBERT models, stays in evaluation mode.

        The statistics of a batch would include padding, and cover one process alone.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        return self

    def forward(
        self,
        waveform: Tensor,
        lengths: Tensor,
        targets: Tensor,
        target_lengths: Tensor,
        *,
        seeds: Tensor,
        head_alone: bool = False,
    ) -> CtcOutput:
        """Run a batch.

        Args:
            waveform: (b, t) PCM in [-1, 1] at the config's sample rate.
            lengths: (b,) valid samples, on the CPU.
            targets: (b, s) labels of the texts.
            target_lengths: (b,) valid labels, on the CPU; a row with 0 is left out.
            seeds: (b,) seeds of the masks, on the CPU.
            head_alone: whether only the head gets gradients.
        """
        config = self.model.config
        given = frame_lengths(config.geometry, lengths)
        frames = torch.tensor([config.context_frames(int(n)) for n in given], dtype=torch.int64)
        with torch.no_grad() if head_alone else nullcontext():
            context = self._context(waveform, lengths, given, seeds)
        # Losses are float32 whatever the precision of the layers.
        with torch.autocast(waveform.device.type, enabled=False):
            valid = frames.to(waveform.device)
            logits = self._head(Frames(context.float(), valid), [], valid)[LOGITS]
            # A process without any frames takes part all the same.
            logits = logits if logits.shape[1] else F.pad(logits, (0, 0, 0, 1))
            return self._loss(logits, frames, targets, target_lengths)

    def _context(self, waveform: Tensor, lengths: Tensor, frames: Tensor, seeds: Tensor) -> Tensor:
        """Return the context (b, n, d); `frames` (b,) counts the features, on the CPU."""
        model, device = self.model, waveform.device

        def masked(projected: Frames) -> Frames:
            steps, dim = projected.values.shape[1:]
            masks = self.augment.draw(frames, steps, dim, seeds).to(device)
            vector = None if model.masker is None else model.masker.vector
            return apply_masks(projected, masks, vector)

        features = model.features(waveform, lengths.to(device))
        outputs = model.outputs(features, masked) if model.training else model.outputs(features)
        return outputs["context"]

    def _loss(
        self, logits: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> CtcOutput:
        # CTC sums thousands of nats over a long recording; float32 would leave four decimals.
        precise = logits if logits.device.type == "mps" else logits.double()
        losses = F.ctc_loss(
            rearrange(precise.log_softmax(dim=-1), "b n v -> n b v"),
            targets,
            frames.clamp(min=1),
            target_lengths,
            blank=self._blank,
            reduction="none",
            zero_infinity=True,
        )
        counted = (target_lengths > 0).to(logits.device, non_blocking=True)
        labels = all_reduce_sum(target_lengths.sum().to(logits.device, torch.float32))
        loss = all_reduce_sum(torch.where(counted, losses, 0.0).sum().float()) / labels.clamp(min=1)
        with torch.no_grad():
            valid = valid_steps(frames.to(logits.device), logits.shape[1])
            best = logits.argmax(dim=-1) == self._blank
            sums = all_reduce_sum(torch.stack([(best & valid).sum(), valid.sum()]).float())
            blank = sums[0] / sums[1].clamp(min=1)
        return CtcOutput(loss, labels, blank, logits.detach(), frames)


@dataclass(frozen=True)
class TextBatch:
    """Recordings with texts, of one process.

    Attributes:
        audio: whole recordings.
        texts: texts as written, by row; empty if this process has no recording.
        labels: (b, s) int64 labels of the texts, zero past their lengths.
        label_lengths: (b,) int64; 0 for a recording that could not be read.
    """

    audio: Batch
    texts: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    label_lengths: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """A transcript of the validation split.

    Attributes:
        reference: the text in the labels' form, what a perfect transcript is.
        written: the text as its manifest has it, with single spaces.
        hypothesis: the model's greedy transcript.
    """

    reference: str
    written: str
    hypothesis: str


class CtcTraining:
    """The fine-tuning task; see `TrainingTask`.

    Attributes:
        model: the model to save.
        examples: transcripts of the last evaluation.
    """

    def __init__(
        self,
        model: Wav2Vec2Model,
        recipe: Recipe,
        data: ClipData,
        *,
        augment: SpecAugment,
        freeze_updates: int,
        bad: BadRecordings,
    ) -> None:
        """Take a model with a CTC head.

        Args:
            model: in either mode; frozen parameters need no gradient already.
            recipe: the hyperparameters.
            data: recordings with texts; those to train on must fit.
            augment: the masks.
            freeze_updates: number of updates for which only the head is trained.
            bad: handles recordings that cannot be read.

        Raises:
            ConfigError: the model has no CTC head.
        """
        self._objective = CtcObjective(model, augment)
        self.model, self._recipe, self._data, self._bad = model, recipe, data, bad
        self._vocabulary = Vocabulary.of_model(model.config)
        self.examples: tuple[Example, ...] = ()
        self._freeze_updates = freeze_updates

    @property
    def module(self) -> nn.Module:
        """The module to run: the objective."""
        return self._objective

    def plan(self, start: Position, rank: int, world_size: int) -> Iterator[PlannedBatch]:
        """See `TrainingTask.plan`."""
        return self._data.plan(start, rank, world_size)

    def load(self, planned: PlannedBatch) -> TextBatch:
        """See `TrainingTask.load`."""
        audio = load_batch(planned, self.model.config.sample_rate, self._recipe.seed, self._bad)
        texts = tuple(crop.clip.utterance.text or "" for crop in planned.crops)
        encoded = [self._vocabulary.encode(text) for text in texts]
        labels = np.zeros((len(audio.lengths), max([1, *map(len, encoded)])), dtype=np.int64)
        lengths = np.zeros(len(audio.lengths), dtype=np.int64)
        for row, label in enumerate(encoded):
            if audio.lengths[row]:
                labels[row, : len(label)] = label
                lengths[row] = len(label)
        return TextBatch(audio, texts, labels, lengths)

    def loss(self, module: nn.Module, batch: TextBatch, update: int, device: torch.device) -> Loss:
        """See `TrainingTask.loss`; in nats per label."""
        output = self._run(module, batch, device, head_alone=update < self._freeze_updates)
        metrics = {"loss": output.loss, "labels": output.labels, "blank": output.blank}
        return Loss(output.loss, output.labels, metrics)

    def evaluate(self, processes: Processes, device: torch.device) -> Metrics:
        """Return loss, CER and WER of greedy decoding on the validation split.

        `cer` and `wer` are against the texts in the labels' form, `cer_as_written` and
        `wer_as_written` against the texts of the manifest, with their case and punctuation.
        """
        planned_batches = self._data.plan_validation(processes.rank, processes.world_size)
        if not planned_batches:
            return {}
        self._objective.eval()
        loss, labels = 0.0, 0.0
        found: list[Example] = []
        for planned in planned_batches:
            with processes.together():
                batch = self.load(planned)
            with torch.no_grad():
                output = self._run(self._objective, batch, device)
            loss += float(output.loss * output.labels)
            labels += float(output.labels)
            with processes.together():
                found += self._examples(batch, output)
        self.examples = tuple(found[:EXAMPLES])
        return {"validation/loss": loss / max(1.0, labels), **_error_rates(found, device)}

    def code_perplexities(self, metrics: Metrics) -> Metrics:  # noqa: ARG002
        """Return nothing: fine-tuning does not train a codebook."""
        return {}

    def _run(
        self, module: nn.Module, batch: TextBatch, device: torch.device, *, head_alone: bool = False
    ) -> CtcOutput:
        """Run a batch; lengths and seeds stay on the CPU."""
        output: CtcOutput = module(
            torch.from_numpy(batch.audio.waveform).to(device, non_blocking=True),
            torch.from_numpy(batch.audio.lengths),
            torch.from_numpy(batch.labels).to(device, non_blocking=True),
            torch.from_numpy(batch.label_lengths),
            seeds=torch.from_numpy(batch.audio.seeds),
            head_alone=head_alone,
        )
        return output

    def _examples(self, batch: TextBatch, output: CtcOutput) -> list[Example]:
        logits, vocabulary = output.logits.cpu().numpy(), self._vocabulary
        return [
            Example(
                vocabulary.spell(text),
                " ".join(text.split()),
                vocabulary.decode(logits[row, : int(output.frames[row])]),
            )
            for row, text in enumerate(batch.texts)
            if batch.audio.lengths[row]
        ]


def _error_rates(examples: Sequence[Example], device: torch.device) -> Metrics:
    """Return character and word error rates (CER, WER) over all processes."""
    try:
        import jiwer
    except ImportError as error:
        raise MissingExtraError("fine-tuning", "jiwer", "train") from error
    hypotheses = [_composed(x.hypothesis) for x in examples]
    counts = {}
    for ending, texts in (
        ("", [x.reference for x in examples]),
        ("_as_written", [x.written for x in examples]),
    ):
        references = [_composed(text) for text in texts]
        for name, process in (("cer", jiwer.process_characters), ("wer", jiwer.process_words)):
            edits = length = 0
            if references:
                found = process(references, hypotheses)
                edits = found.substitutions + found.deletions + found.insertions
                length = found.hits + found.substitutions + found.deletions
            counts[name + ending] = (edits, length)
    # float32 is exact for whole numbers up to 16 million, and every device has it.
    given = torch.tensor(list(counts.values()), dtype=torch.float32, device=device)
    sums = all_reduce_sum(given).tolist()
    return {
        f"validation/{name}": edits / max(1.0, length)
        for name, (edits, length) in zip(counts, sums, strict=True)
    }


def _composed(text: str) -> str:
    """Return a text in NFC: the encoding of an accent is no error."""
    return unicodedata.normalize("NFC", text)
