"""Pre-training: a model learns to tell the codes behind its masked frames from other ones.

Source: wav2vec 2.0 (arXiv 2006.11477), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import nn

from w2v_edge.errors import AudioFileError, ConfigError
from w2v_edge.model.pretraining import PretrainingOutput
from w2v_edge.model.quantizer import GumbelVectorQuantizer
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.training.batches import Batch, Position, collate, plan, plans
from w2v_edge.training.clips import Clip
from w2v_edge.training.loop import Figures, Loss
from w2v_edge.training.recipe import Recipe

PERPLEXITY = "perplexity/group_"
HELD_OUT_EPOCH = 0


class Pretraining:
    """What is pre-trained, on what."""

    def __init__(
        self,
        model: SpeechModel,
        recipe: Recipe,
        clips: Sequence[Clip],
        held_out: Sequence[Clip],
        pass_over: Callable[[AudioFileError], None] | None = None,
    ) -> None:
        """Take a model with an objective.

        Args:
            model: in any mode.
            recipe: how it is trained.
            clips: what it is trained on.
            held_out: what it is evaluated on.
            pass_over: told of a recording that cannot be read; with none, that is an error.

        Raises:
            ConfigError: the model has no objective.
        """
        if model.config.objective is None or model.quantizer is None:
            raise ConfigError(
                "found a model without a pre-training objective (no quantizer, or no masking), "
                "expected one with; choose a preset, or --init from a pre-trained checkpoint"
            )
        self.model, self.recipe = model, recipe
        self.clips, self.held_out = clips, held_out
        self._rate, self._pass_over = model.config.sample_rate, pass_over

    @property
    def module(self) -> nn.Module:
        """What is run; see `Task.module`."""
        return self.model

    def jobs(self, start: Position, rank: int, processes: int) -> Iterator[Callable[[], Batch]]:
        """Yield what reads batches; see `Task.jobs`."""
        recipe = self.recipe
        for pieces, after in plans(
            self.clips,
            start,
            batch_seconds=recipe.batch_seconds,
            crop_seconds=recipe.crop_seconds,
            seed=recipe.seed,
        ):
            yield partial(
                collate,
                pieces,
                after,
                sample_rate=self._rate,
                seed=recipe.seed,
                rank=rank,
                processes=processes,
                pass_over=self._pass_over,
            )

    def loss(self, model: nn.Module, batch: Batch, update: int, device: torch.device) -> Loss:
        """Run the objective; see `Task.loss`."""
        output = run(model, batch, update, device)
        figures = {
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
            temperature = quantizer.config.temperature.at(update)
            figures["temperature"] = torch.tensor(temperature)
        return Loss(output.loss, output.masked, figures)

    def evaluate(self, rank: int, processes: int, device: torch.device) -> Figures:
        """Return loss, accuracy and perplexity by hard codes on what is held out.

        Masks are the same each time.
        """
        if not self.held_out:
            return {}
        recipe = self.recipe
        batches = plan(
            self.held_out,
            batch_seconds=recipe.batch_seconds,
            crop_seconds=recipe.crop_seconds,
            seed=recipe.seed,
            epoch=HELD_OUT_EPOCH,
        )
        self.model.eval()
        totals: dict[str, float] = {}
        masked = 0.0
        for number, pieces in enumerate(batches):
            batch = collate(
                pieces,
                Position(HELD_OUT_EPOCH, number),
                sample_rate=self._rate,
                seed=recipe.seed,
                rank=rank,
                processes=processes,
                pass_over=self._pass_over,
            )
            with torch.no_grad():
                output = run(self.model, batch, recipe.updates, device)
            weight = float(output.masked)
            masked += weight
            figures = {
                "contrastive": output.contrastive,
                "accuracy": output.accuracy,
                **{f"{PERPLEXITY}{i}": x for i, x in enumerate(output.code_perplexity)},
            }
            for name, value in figures.items():
                totals[name] = totals.get(name, 0.0) + weight * float(value)
        return {f"held_out/{name}": value / max(1.0, masked) for name, value in totals.items()}

    def collapse(self, figures: Figures) -> Figures:
        """Return the perplexity of each group's codes."""
        return {name: x for name, x in figures.items() if name.startswith(PERPLEXITY)}


def run(model: nn.Module, batch: Batch, update: int, device: torch.device) -> PretrainingOutput:
    """Run a batch; lengths and seeds stay on the host, where masks are drawn."""
    waveform = torch.from_numpy(batch.waveform).to(device, non_blocking=True)
    output: PretrainingOutput = model(
        waveform,
        torch.from_numpy(batch.lengths),
        update=update,
        seeds=torch.from_numpy(batch.seeds),
    )
    return output
