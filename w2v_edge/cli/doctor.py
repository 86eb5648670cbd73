"""`w2v-edge doctor`: versions, execution providers, limits, and missing packages."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from w2v_edge.cli.on import bundle_tree, remote_verb
from w2v_edge.cli.options import json_option, provider_option
from w2v_edge.cli.output import EXTRAS, print_json, print_line, print_table, require
from w2v_edge.errors import MissingExtraError, ProviderError
from w2v_edge.extras import install_command
from w2v_edge.providers import (
    Placement,
    ProviderChoice,
    cgroup_cores,
    cgroup_memory,
    default_threads,
    fast_cores,
    import_onnxruntime,
    usable_cores,
)
from w2v_edge.providers.installation import WHEELS, conflict, installed_wheels
from w2v_edge.providers.instructions import instructions
from w2v_edge.providers.machine import total_memory
from w2v_edge.providers.plugins import plugin_states
from w2v_edge.providers.session import FATAL

PACKAGES = (
    "w2v-edge",
    "numpy",
    *WHEELS,
    *(
        "soundfile soxr torch einops onnx onnxscript onnx-ir safetensors huggingface-hub "
        "matplotlib pysubs2 ctc-beam-decoder pyarrow ray"
    ).split(),
)

HEAVIEST = 8
"""Number of operators to list for each graph."""


@remote_verb(
    "doctor",
    short_help="Check the installation and how to fix it.",
    inputs={"bundle": bundle_tree},
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="Also profile each graph of this bundle, and show where its operators run.",
)
@provider_option
@json_option
def command(bundle: Path | None, provider: ProviderChoice, as_json: bool) -> None:
    """Show versions, execution providers, threads and limits, and how to fix the installation.

    The first line says whether bundles run here, and if not, what to do first. Also shown are the
    processor's instructions that onnxruntime uses for products, or could use, and installed
    packages of plugin providers with the devices that they find.

    With --bundle, each graph is profiled on --provider for a second: the fractions of operators and
    of their time by provider, and the slowest operators.
    """
    report = {
        "versions": {"python": platform.python_version(), **_versions()},
        "platform": platform.platform(),
        "instructions": instructions(),
        "providers": _providers(),
        "plugins": _plugins(),
        "threads": {
            "cores": os.cpu_count(),
            "usable": usable_cores(),
            "fast": fast_cores(),
            "default": default_threads(),
            "cgroup quota": cgroup_cores(),
        },
        "memory": {"bytes": total_memory(), "cgroup limit": cgroup_memory()},
        "remedies": _remedies(),
    }
    if bundle is not None:
        report["placement"], report["refused"] = _placement(bundle, provider)
    report = {"verdict": _verdict(report), **report}
    if as_json:
        print_json(report)
        return
    _print(report)


def _placement(
    bundle: Path, provider: ProviderChoice
) -> tuple[dict[str, Placement], dict[str, str]]:
    """Profile every graph of a bundle.

    Returns:
        The placement of each graph, with fallback to the CPU, and the errors of graphs that do not
        run without fallback.
    """
    require("running a bundle", "cpu")
    import w2v_edge

    strict = w2v_edge.load(bundle, provider=provider)
    lenient = w2v_edge.load(bundle, provider=provider, allow_fallback=True)
    placements, refused = {}, {}
    for graph in strict.manifest.graphs:
        try:
            placements[graph] = strict.prove(graph)
        except ProviderError as error:
            refused[graph] = str(error)
            placements[graph] = lenient.prove(graph)
    return placements, refused


def _verdict(report: dict[str, Any]) -> str:
    """Say in one line whether bundles run here, and if not, what to do first."""
    urgent = [x for x in report["remedies"] if x["urgent"]]
    optional = len(report["remedies"]) - len(urgent)
    if urgent:
        more = f" ({len(urgent) - 1} more below)" if len(urgent) > 1 else ""
        return f"not ready: {urgent[0]['what']}; first: {urgent[0]['fix']}{more}"
    if report.get("refused"):
        graphs = ", ".join(report["refused"])
        return f"not ready: the provider does not run all of {graphs}; the reasons are at the end"
    if optional:
        return f"ready: bundles run here; extras that are not installed ({optional}) are at the end"
    return "ready: bundles run here, and every extra is installed"


def _print(report: dict[str, Any]) -> None:
    print_line(report["verdict"])
    installed = {x: y for x, y in report["versions"].items() if y != ABSENT or x not in WHEELS}
    print_table("versions", ("package", "version"), installed.items())
    threads, memory = report["threads"], report["memory"]
    quota, limit = threads["cgroup quota"], memory["cgroup limit"]
    print_line(f"platform: {report['platform']}")
    print_line(f"execution providers: {', '.join(report['providers']) or 'none'}")
    for name, state in report["plugins"].items():
        print_line(f"plugin: {name}: {state}")
    print_line(
        f"threads: {threads['default']} by default; {threads['cores']} cores, "
        f"{threads['fast']} of them fast and allowed, "
        f"cgroup quota {'none' if quota is None else f'{quota:g} cores'}"
    )
    print_line(f"memory: {_gigabytes(memory['bytes'])}, cgroup limit {_gigabytes(limit)}")
    for name, use in report["instructions"].items():
        print_line(f"instructions: {name}: {use}")
    for graph, placement in report.get("placement", {}).items():
        _print_placement(graph, placement)
    for refusal in report.get("refused", {}).values():
        print_line(f"- {refusal}")
    for remedy in report["remedies"]:
        print_line(f"- {remedy['what']}: {remedy['fix']}")


def _print_placement(graph: str, placement: Placement) -> None:
    nodes, times = placement.nodes or {}, placement.time or {}
    total = max(1, sum(nodes.values()))
    shares = (
        f"{provider} {count / total:.1%} of {total} operators, {times[provider]:.1%} of their time"
        for provider, count in nodes.items()
    )
    print_line(f"{graph}: {'; '.join(shares)}, in {placement.runs} runs after warm-up")
    print_table(
        graph,
        ("operator", "provider", ">time"),
        ((name, where, f"{share:.1%}") for name, where, share in placement.heaviest[:HEAVIEST]),
    )


def _gigabytes(size: int | None) -> str:
    return "none" if size is None else f"{size / 1e9:.1f} GB"


ABSENT = "not installed"


def _versions() -> dict[str, str]:
    return {name: _version(name) or ABSENT for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _providers() -> list[str]:
    try:
        available: list[str] = import_onnxruntime().get_available_providers()
    except MissingExtraError:
        return []
    return available


def _plugins() -> dict[str, str]:
    """Return the state of each installed plugin provider, whose library is loaded here."""
    try:
        ort = import_onnxruntime()
    except MissingExtraError:
        return {}
    ort.set_default_logger_severity(FATAL)
    return plugin_states(ort)


def _remedies() -> list[dict[str, Any]]:
    """Return what is wrong or missing, how to fix it, and whether bundles need it to run."""
    remedies: list[dict[str, Any]] = []
    wheels = installed_wheels()
    if len(wheels) > 1:
        what, fix = conflict(wheels, wheels[-1])
        remedies.append({"what": what, "fix": fix, "urgent": True})
    if importlib.util.find_spec("onnxruntime") is not None and not _providers():
        fix = f"{install_command('cpu')} --force-reinstall"
        what = "onnxruntime is installed and cannot be loaded"
        remedies.append({"what": what, "fix": fix, "urgent": True})
    purposes = {
        "cpu": "running bundles",
        "audio": "reading audio files and resampling",
        "cli": "writing subtitles",
        "corpus": "encoding whole corpora",
        "lm": "transcribing with a language model",
        "mic": "recording from a microphone",
        "romanize": "aligning texts of other scripts with Latin labels",
        "hub": "reading models of the Hugging Face Hub",
        "export": "making checkpoints and exporting",
        "train": "training",
        "report": "pictures",
        "mlperf": "MLPerf LoadGen",
    }
    for extra, modules in EXTRAS.items():
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        if missing:
            what = f"{purposes[extra]} needs {', '.join(missing)}"
            fix = install_command(extra)
            remedies.append({"what": what, "fix": fix, "urgent": extra == "cpu"})
    return remedies
