"""Codes without learned features: k-means over MFCC, fitted to the training prompts.

39 coefficients a frame, 13 with first and second differences, as for the first targets of HuBERT
(arXiv 2106.07447, section IV.B), at the model's hop. Each further group clusters the residual
of the groups before (residual vector quantization), so that the codes have the shape and the bits
of the model's.
"""

from __future__ import annotations

from collections.abc import Sequence

import kaldi_native_fbank as knf
import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

from bench.tiny.codes import Codes
from bench.tiny.prompts import Prompt
from w2v_edge.errors import InputError

Floats = npt.NDArray[np.float32]

FULL_SCALE = 2**15
"""Kaldi's MFCC are of 16-bit numbers."""


def of_mfcc(
    prompts: Sequence[Prompt], *, entries: int, groups: int, hop_ms: float, sample_rate: int
) -> Codes:
    """Cluster the training prompts' MFCC `groups` times, and code every prompt with the result.

    Raises:
        InputError: fewer frames than entries.
    """
    rest = {x.id: mfcc(x, hop_ms, sample_rate) for x in prompts}
    codes: dict[str, list[npt.NDArray[np.int64]]] = {x.id: [] for x in prompts}
    for group in range(groups):
        trained = np.concatenate([rest[x.id] for x in prompts if not x.held_out])
        if len(trained) < entries:
            raise InputError(
                f"found {len(trained)} training frames, expected at least {entries} for as many "
                "clusters; name more audio"
            )
        means = KMeans(entries, n_init=1, max_iter=50, random_state=group).fit(trained)
        for name, frames in rest.items():
            nearest = means.predict(frames).astype(np.int64)
            codes[name].append(nearest)
            rest[name] = frames - means.cluster_centers_[nearest]
    return Codes(entries, {name: np.stack(each, axis=1) for name, each in codes.items()})


def mfcc(prompt: Prompt, hop_ms: float, sample_rate: int) -> Floats:
    """Return MFCC (frames, 39) of a prompt."""
    options = knf.MfccOptions()
    options.frame_opts.samp_freq = sample_rate
    options.frame_opts.frame_shift_ms = hop_ms
    options.frame_opts.dither = 0.0
    options.use_energy = False
    computer = knf.OnlineMfcc(options)
    computer.accept_waveform(sample_rate, prompt.waveform * FULL_SCALE)
    computer.input_finished()
    static = np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])
    made: Floats = knf.compute_deltas(knf.DeltaOptions(), static).astype(np.float32)
    return made
