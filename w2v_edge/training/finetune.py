"""Fine-tuning: a model learns to write what is said, from recordings with texts.

Source: wav2vec 2.0 (arXiv 2006.11477), section 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from w2v_edge.errors import AudioFileError
from w2v_edge.model.collective import all_reduce_sum
from w2v_edge.model.config import CtcHeadConfig
from w2v_edge.model.speech_model import Wav2Vec2Model
from w2v_edge.training.batches import Batch, Position, collate, plan, plans
from w2v_edge.training.clips import Clip, Piece
from w2v_edge.training.ctc import CtcObjective, CtcOutput
from w2v_edge.training.loop import Figures, Loss
from w2v_edge.training.recipe import Recipe
from w2v_edge.training.scores import character_errors, word_errors
from w2v_edge.training.spec_augment import SpecAugment
from w2v_edge.training.vocabulary import Vocabulary

HELD_OUT_EPOCH = 0
EXAMPLES = 3


@dataclass(frozen=True)
class TextBatch:
    """A batch of one process.

    Attributes:
        audio: whole recordings.
        texts: normalised, by row; shorter than the batch where this process has no recording.
        labels: (b, s) of the texts, zero past their lengths.
        label_lengths: (b,) int64; 0 where a recording could not be read.
    """

    audio: Batch
    texts: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    label_lengths: npt.NDArray[np.int64]

    @property
    def seconds(self) -> float:
        """Audio in the batch of all processes."""
        return self.audio.seconds

    @property
    def after(self) -> Position:
        """Where the run is when it is done."""
        return self.audio.after


@dataclass(frozen=True)
class Example:
    """What was said, and what the model wrote."""

    reference: str
    hypothesis: str


class Finetuning:
    """What is fine-tuned, on what.

    Attributes:
        examples: of the last evaluation.
    """

    def __init__(
        self,
        model: Wav2Vec2Model,
        recipe: Recipe,
        clips: Sequence[Clip],
        held_out: Sequence[Clip],
        *,
        augment: SpecAugment,
        freeze_updates: int = 0,
        pass_over: Callable[[AudioFileError], None] | None = None,
    ) -> None:
        """Take a model with a CTC head.

        Args:
            model: in any mode; what it is to keep needs no gradient already.
            recipe: how it is trained.
            clips: what it is trained on, with texts that are normalised and fit.
            held_out: what it is evaluated on, with texts that are normalised.
            augment: masks.
            freeze_updates: for so many updates the head alone is trained.
            pass_over: told of a recording that cannot be read; with none, that is an error.
        """
        head = model.config.head
        assert isinstance(head, CtcHeadConfig)
        self.model, self.recipe, self.vocabulary = model, recipe, Vocabulary(head)
        self.clips, self.held_out = clips, held_out
        self.examples: tuple[Example, ...] = ()
        self._objective = CtcObjective(model, augment)
        self._freeze_updates, self._pass_over = freeze_updates, pass_over

    @property
    def module(self) -> nn.Module:
        """What is run; see `Task.module`."""
        return self._objective

    def jobs(self, start: Position, rank: int, processes: int) -> Iterator[Callable[[], TextBatch]]:
        """Yield what reads batches; see `Task.jobs`."""
        recipe = self.recipe
        for pieces, after in plans(
            self.clips,
            start,
            batch_seconds=recipe.batch_seconds,
            crop_seconds=math.inf,
            seed=recipe.seed,
        ):
            yield partial(self._collate, pieces, after, rank, processes)

    def loss(self, model: nn.Module, batch: TextBatch, update: int, device: torch.device) -> Loss:
        """Run CTC, in nats a label over all processes; see `Task.loss`."""
        output = self._run(model, batch, device, head_alone=update < self._freeze_updates)
        figures = {"loss": output.loss, "labels": output.labels, "blank": output.blank}
        return Loss(output.loss, output.labels, figures)

    def evaluate(self, rank: int, processes: int, device: torch.device) -> Figures:
        """Return loss, CER and WER by greedy decoding on what is held out."""
        if not self.held_out:
            return {}
        batches = plan(
            self.held_out,
            batch_seconds=self.recipe.batch_seconds,
            crop_seconds=math.inf,
            seed=self.recipe.seed,
            epoch=HELD_OUT_EPOCH,
        )
        self.model.eval()
        loss, labels = 0.0, 0.0
        found: list[Example] = []
        for number, pieces in enumerate(batches):
            batch = self._collate(pieces, Position(HELD_OUT_EPOCH, number), rank, processes)
            with torch.no_grad():
                output = self._run(self._objective, batch, device)
            loss += float(output.loss * output.labels)
            labels += float(output.labels)
            found += self._examples(batch, output)
        self.examples = tuple(found[:EXAMPLES])
        return {"held_out/loss": loss / max(1.0, labels), **_errors(found, device)}

    def collapse(self, figures: Figures) -> Figures:  # noqa: ARG002
        """Return nothing: there are no codes to collapse."""
        return {}

    def _run(
        self, module: nn.Module, batch: TextBatch, device: torch.device, *, head_alone: bool = False
    ) -> CtcOutput:
        """Run a batch; lengths and seeds stay on the host."""
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
        logits = output.logits.cpu().numpy()
        return [
            Example(text, self.vocabulary.decode(logits[row, : int(output.frames[row])]))
            for row, text in enumerate(batch.texts)
            if batch.audio.lengths[row]
        ]

    def _collate(
        self, pieces: Sequence[Piece], after: Position, rank: int, processes: int
    ) -> TextBatch:
        audio = collate(
            pieces,
            after,
            sample_rate=self.model.config.sample_rate,
            seed=self.recipe.seed,
            rank=rank,
            processes=processes,
            pass_over=self._pass_over,
        )
        texts = tuple(piece.clip.utterance.text or "" for piece in pieces[rank::processes])
        spelled = [self.vocabulary.encode(text) for text in texts]
        labels = np.zeros((len(audio.lengths), max([1, *map(len, spelled)])), dtype=np.int64)
        lengths = np.zeros(len(audio.lengths), dtype=np.int64)
        for row, label in enumerate(spelled):
            if audio.lengths[row]:
                labels[row, : len(label)] = label
                lengths[row] = len(label)
        return TextBatch(audio, texts, labels, lengths)


def _errors(examples: Sequence[Example], device: torch.device) -> Figures:
    """Return CER and WER over all processes."""
    references = [x.reference for x in examples]
    hypotheses = [x.hypothesis for x in examples]
    counts = [character_errors(references, hypotheses), word_errors(references, hypotheses)]
    # float32 counts all whole numbers up to 16 million, and every device has it.
    sums = all_reduce_sum(torch.tensor(counts, dtype=torch.float32, device=device)).tolist()
    (cer, characters), (wer, words) = sums
    return {"held_out/cer": cer / max(1.0, characters), "held_out/wer": wer / max(1.0, words)}
