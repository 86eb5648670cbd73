"""How well a word's confidence parts right words from wrong ones.

    python -m bench.confidence CHECKPOINT MANIFEST [-o FILE.json]

MANIFEST is a .tsv with the columns `path` and `text`; CHECKPOINT has letters as labels. Words of
greedy decoding are right or wrong by the edit distance to the text. Measured are the package's
confidence, and the geometric mean of the best labels' probabilities over the frames that emit them:
the area under the ROC curve (0.5 is chance, 1 puts every right word above every wrong one), and
NIST's normalised cross entropy (0 is the share of right words alone, 1 is certain and right).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch

from bench.peers import hardware
from w2v_edge.bundle import CtcInfo
from w2v_edge.checkpoints import load_source
from w2v_edge.model.head_config import CtcHeadConfig
from w2v_edge.text.decoding import GreedyDecoder
from w2v_edge.text.spelling import Spelling, log_softmax

Floats = npt.NDArray[np.floating[Any]]


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.confidence", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    model = load_source(given.checkpoint).model
    head = model.config.head
    if not isinstance(head, CtcHeadConfig):
        parser.error(f"{given.checkpoint}: found no CTC head")
    info = CtcInfo(head.blank, head.word_delimiter, head.special, lowercase=head.lowercase)
    spelling = Spelling.of(head.labels, info)
    right: list[bool] = []
    found: dict[str, list[float]] = {"ctc_probability": [], "geometric_mean": []}
    rows = list(csv.DictReader(given.manifest.open(), delimiter="\t", quoting=csv.QUOTE_NONE))
    for row in rows:
        samples = torch.from_numpy(soundfile.read(row["path"], dtype="float32")[0])[None]
        with torch.no_grad():
            features = model.features(samples, torch.tensor([samples.shape[1]]))
            logits = model.outputs(features)["logits"][0].numpy()
        words = GreedyDecoder(spelling).decode(logits, 1.0).words
        text = re.sub(r"[^\w']+", " ", row["text"].lower()).split()
        right += _right([word.text.lower() for word in words], text)
        found["ctc_probability"] += [word.confidence for word in words]
        found["geometric_mean"] += [
            _mean(logits[int(word.start) : int(word.end)], spelling) for word in words
        ]
    truth = np.array(right)
    figures = {
        name: {"roc_area": _roc_area(np.array(x), truth), "nce": _cross_entropy(np.array(x), truth)}
        for name, x in found.items()
    }
    result = {
        "hardware": hardware.describe(),
        "recordings": len(rows),
        "words": len(truth),
        "share_right": float(truth.mean()),
        "measures": figures,
    }
    written = json.dumps(result, indent=1, allow_nan=False) + "\n"
    print(written, end="")
    if given.output:
        given.output.write_text(written, encoding="utf-8")


def _right(found: list[str], text: list[str]) -> list[bool]:
    """Return which words are in a text, on a path of the fewest edits."""
    cost = np.add.outer(np.arange(len(found) + 1), np.arange(len(text) + 1))
    for i, word in enumerate(found, 1):
        for j, other in enumerate(text, 1):
            change = cost[i - 1, j - 1] + (word != other)
            cost[i, j] = min(change, cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    right, i, j = [False] * len(found), len(found), len(text)
    while i and j:
        same = found[i - 1] == text[j - 1]
        if cost[i, j] == cost[i - 1, j - 1] + (not same):
            i, j = i - 1, j - 1
            right[i] = same
        elif cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return right


def _mean(logits: Floats, spelling: Spelling) -> float:
    best = log_softmax(logits).max(axis=1)
    spelled = np.array([bool(text.strip()) for text in spelling.texts])[logits.argmax(axis=1)]
    return math.exp(float(best[spelled].mean()))


def _roc_area(scores: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Return the share of pairs of a right and a wrong word that are in order; ties count half."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    good = int(right.sum())
    return float((ranks[right].sum() - good * (good + 1) / 2) / (good * (len(right) - good)))


def _cross_entropy(scores: Floats, right: npt.NDArray[np.bool_]) -> float:
    share = float(right.mean())
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    likely = np.clip(np.where(right, scores, 1 - scores), 1e-6, 1)
    return float((entropy + np.log2(likely).mean()) / entropy)


if __name__ == "__main__":
    main()
