"""What each type of operator takes, by onnxruntime's profile of a few runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from w2v_edge import strict
from w2v_edge.latency.inputs import read_inputs
from w2v_edge.latency.jobs import Job
from w2v_edge.latency.report import Operator
from w2v_edge.names import Power
from w2v_edge.providers.placement import CONTROL, KERNEL

WARM_UPS = 2
RUNS = 5


def work(job: Job, begun: float) -> dict[str, Any]:  # noqa: ARG001 - as all jobs
    """Profile the graph of a case on its inputs."""
    import w2v_edge

    case = job.case
    model = w2v_edge.load(
        job.bundle,
        provider=(case.provider, case.provider_options),
        threads=case.threads,
        power=cast("Power", case.power),
    )
    events = model.profile(case.graph, WARM_UPS + RUNS, **read_inputs(Path(job.inputs))[0])
    nodes, operators = sum_up(events, WARM_UPS)
    return {"nodes": nodes, "operators": strict.to_plain(operators)}


def sum_up(
    events: Iterable[dict[str, Any]], warm_ups: int
) -> tuple[dict[str, int], tuple[Operator, ...]]:
    """Return each provider's nodes in one run, and what operators take, longest first."""
    events = list(events)
    begins = sorted(int(x["ts"]) for x in events if x.get("name") == "model_run")
    kept = begins[warm_ups:]
    counts: Counter[tuple[str, str]] = Counter()
    times: Counter[tuple[str, str]] = Counter()
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith(KERNEL) or int(event["ts"]) < kept[0]:
            continue
        key = (event["args"]["op_name"], event["args"]["provider"])
        counts[key] += 1
        # The time of a loop is that of what is in it.
        times[key] += 0 if key[0] in CONTROL else int(event["dur"])
    total = max(1, times.total())
    nodes: Counter[str] = Counter()
    for (_, provider), count in counts.items():
        nodes[provider] += round(count / len(kept))
    return dict(nodes.most_common()), tuple(
        Operator(
            *key, counts[key] / len(kept), round(time / 1e3 / len(kept), 4), round(time / total, 6)
        )
        for key, time in times.most_common()
    )
