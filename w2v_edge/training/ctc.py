"""The objective of fine-tuning: connectionist temporal classification (CTC, Graves et al. 2006)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from w2v_edge.model.collective import all_reduce_sum
from w2v_edge.model.heads import CtcHead
from w2v_edge.model.padding import Frames, frame_lengths, valid_steps
from w2v_edge.model.speech_model import Wav2Vec2Model
from w2v_edge.training.spec_augment import SpecAugment, hide


class CtcOutput(NamedTuple):
    """What a batch came to.

    Attributes:
        loss: nats for each label of the texts, over all processes; scalar.
        labels: how many labels that is, over all processes; scalar.
        blank: share of the frames for which the blank is the best label, over all processes.
        logits: (b, n, labels), float32, of this process alone, without gradient.
        frames: (b,) valid ones of these, on the host.
    """

    loss: Tensor
    labels: Tensor
    blank: Tensor
    logits: Tensor
    frames: Tensor


class CtcObjective(nn.Module):
    """A model with a CTC head, run for its loss; masked while the model is in training mode."""

    def __init__(self, model: Wav2Vec2Model, augment: SpecAugment) -> None:
        super().__init__()
        assert isinstance(model.head, CtcHead)
        self.model = model
        self.augment = augment

    def train(self, mode: bool = True) -> CtcObjective:
        """Set the mode; batch norm, as some HuBERT have, goes by what it has learned in any.

        A batch's own statistics would be those of its padding, too, and of one process alone.
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
            lengths: (b,) valid samples, on the host.
            targets: (b, s) labels of the texts.
            target_lengths: (b,) how many of them are valid, on the host; 0 leaves a row out.
            seeds: (b,) of the masks, on the host.
            head_alone: whether nothing but the head is to have gradients.
        """
        head, config = self.model.head, self.model.config
        assert head is not None
        given = frame_lengths(config.geometry, lengths)
        frames = torch.tensor([config.context_frames(int(n)) for n in given], dtype=torch.int64)
        with torch.no_grad() if head_alone else nullcontext():
            context = self._context(waveform, lengths, given, seeds)
        # Losses are float32 whatever the layers compute in.
        with torch.autocast(waveform.device.type, enabled=False):
            logits = head(Frames(context.float(), frames.to(waveform.device)), [])
            # A process that has nothing long enough for a frame still takes part.
            logits = logits if logits.shape[1] else F.pad(logits, (0, 0, 0, 1))
            return self._loss(logits, frames, targets, target_lengths)

    def _context(self, waveform: Tensor, lengths: Tensor, frames: Tensor, seeds: Tensor) -> Tensor:
        """Return the context (b, n, d); `frames` (b,) are those of the features, on the host."""
        model, device = self.model, waveform.device

        def masked(projected: Frames) -> Frames:
            steps, dim = projected.values.shape[1:]
            drawn = self.augment.draw(frames, steps, dim, seeds)
            vector = None if model.masker is None else model.masker.vector
            return hide(projected, drawn.to(device), vector)

        features = model.features(waveform, lengths.to(device))
        made = model.outputs(features, masked) if model.training else model.outputs(features)
        return made["context"]

    def _loss(
        self, logits: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> CtcOutput:
        head = self.model.config.head
        assert head is not None
        assert head.kind == "ctc"
        losses = F.ctc_loss(
            rearrange(_precise(logits).log_softmax(dim=-1), "b n v -> n b v"),
            targets,
            frames.clamp(min=1),
            target_lengths,
            blank=head.blank,
            reduction="none",
            zero_infinity=True,
        )
        counted = (target_lengths > 0).to(logits.device, non_blocking=True)
        labels = all_reduce_sum(target_lengths.sum().to(logits.device, torch.float32))
        loss = all_reduce_sum(torch.where(counted, losses, 0.0).sum().float()) / labels.clamp(min=1)
        with torch.no_grad():
            valid = valid_steps(frames.to(logits.device), logits.shape[1])
            best = logits.argmax(dim=-1) == head.blank
            sums = all_reduce_sum(torch.stack([(best & valid).sum(), valid.sum()]).float())
            blank = sums[0] / sums[1].clamp(min=1)
        return CtcOutput(loss, labels, blank, logits.detach(), frames)


def _precise(logits: Tensor) -> Tensor:
    """Return them in float64 where the device has it.

    CTC sums thousands of nats over a long recording: of these float32 keeps four digits behind the
    point, which is what gradients are made of.
    """
    return logits if logits.device.type == "mps" else logits.double()
