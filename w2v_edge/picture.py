"""Picture of a waveform and its codes (matplotlib)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from w2v_edge.audio import Waveform
from w2v_edge.files import replacing

INK, PAPER, GRID, ACCENT = "#1c2430", "#fbfaf7", "#d9d5cc", "#2f6f8f"
COLOURS = "twilight_shifted"
COLUMNS = 1600
"""Number of points of the waveform's envelope."""


def draw_codes(
    path: Path,
    waveform: Waveform,
    sample_rate: int,
    codes: npt.NDArray[np.int64],
    times: npt.NDArray[np.float64],
    entries: int,
    title: str,
) -> None:
    """Draw one utterance to a PNG.

    Args:
        path: the PNG file.
        waveform: (samples,) PCM.
        sample_rate: sample rate in Hz.
        codes: (frames, groups).
        times: (frames,) in seconds.
        entries: number of entries in each codebook.
        title: title of the picture.
    """
    groups = codes.shape[1]
    figure = Figure(figsize=(14, 3.2 + 2.1 * groups), facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1 + groups, 1, sharex=True, height_ratios=[1.15, *[1.0] * groups])
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=13, fontweight="bold")
    _draw_waveform(axes[0], waveform, sample_rate)
    for group in range(groups):
        _draw_group(axes[1 + group], codes[:, group], times, entries, group)
    axes[-1].set_xlabel("seconds", color=INK)
    axes[0].set_xlim(0, len(waveform) / sample_rate)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _draw_waveform(axis: Axes, waveform: Waveform, sample_rate: int) -> None:
    """Draw the envelope: minimum and maximum over all samples of each column."""
    edges = np.unique(np.linspace(0, len(waveform), COLUMNS + 1).astype(int))
    starts = edges[:-1]
    time = starts / sample_rate
    high = np.maximum.reduceat(waveform, starts)
    low = np.minimum.reduceat(waveform, starts)
    axis.fill_between(time, low, high, color=ACCENT, linewidth=0.4, edgecolor=ACCENT)
    limit = max(float(np.abs(waveform).max()) * 1.1, 1e-3)
    axis.set_ylim(-limit, limit)
    axis.set_ylabel("waveform", color=INK)
    _style(axis)


def _draw_group(
    axis: Axes,
    codes: npt.NDArray[np.int64],
    times: npt.NDArray[np.float64],
    entries: int,
    group: int,
) -> None:
    """Draw a codebook as a raster: one tick per frame, at the height of its entry."""
    width = times[1] - times[0] if len(times) > 1 else 0.02
    # A strip below the raster shows runs of equal codes, which ticks do not.
    strip = codes[np.newaxis] / max(entries - 1, 1)
    extent = (times[0] - width / 2, times[-1] + width / 2, -0.16 * entries, -0.04 * entries)
    axis.imshow(strip, aspect="auto", extent=extent, cmap=COLOURS, vmin=0, vmax=1)
    axis.scatter(
        times,
        codes,
        c=codes / max(entries - 1, 1),
        cmap=COLOURS,
        vmin=0,
        vmax=1,
        marker="|",
        s=max(12.0, 3200 / entries),
        linewidths=1.6,
    )
    axis.set_ylim(-0.2 * entries, entries)
    axis.set_yticks([0, entries // 2, entries - 1])
    used = len(np.unique(codes))
    axis.set_ylabel(f"codebook {group + 1}\n{used} of {entries} in use", color=INK)
    _style(axis)


def _style(axis: Axes) -> None:
    axis.set_facecolor(PAPER)
    axis.grid(axis="x", color=GRID, linewidth=0.6)
    axis.tick_params(colors=INK, length=0)
    axis.set_axisbelow(True)
    for side in axis.spines.values():
        side.set_visible(False)
