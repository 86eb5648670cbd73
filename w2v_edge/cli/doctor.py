"""`w2v-edge doctor`: what is installed, what it can use, and what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata
from typing import Any

import click

from w2v_edge.cli.output import EXTRAS, console, json_option, print_json, print_table
from w2v_edge.providers import cgroup_cores, usable_cores

PACKAGES = (
    "w2v-edge numpy onnxruntime onnxruntime-gpu soundfile soxr torch einops onnx onnxscript "
    "onnx-ir safetensors huggingface-hub matplotlib pysubs2 ctc-beam-decoder"
).split()


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Show versions, execution providers, threads and limits, and how to mend what is missing."""
    report = {
        "versions": {"python": platform.python_version(), **_versions()},
        "platform": platform.platform(),
        "providers": _providers(),
        "threads": {
            "cores": os.cpu_count(),
            "usable": usable_cores(),
            "cgroup quota": cgroup_cores(),
        },
        "remedies": _remedies(),
    }
    if as_json:
        print_json(report)
        return
    _print(report)


def _print(report: dict[str, Any]) -> None:
    print_table("versions", ("package", "version"), report["versions"].items())
    threads = report["threads"]
    quota = threads["cgroup quota"]
    console().print(f"platform: {report['platform']}")
    console().print(f"execution providers: {', '.join(report['providers']) or 'none'}")
    console().print(
        f"threads: {threads['usable']} by default; {threads['cores']} cores, "
        f"cgroup quota {'none' if quota is None else f'{quota:g} cores'}"
    )
    for remedy in report["remedies"]:
        console().print(f"- {remedy['what']}: {remedy['fix']}", soft_wrap=True)
    if not report["remedies"]:
        console().print("nothing is missing")


def _versions() -> dict[str, str]:
    return {name: _version(name) or "not installed" for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _providers() -> list[str]:
    if importlib.util.find_spec("onnxruntime") is None:
        return []
    try:
        import onnxruntime
    except ImportError:
        return []
    available: list[str] = onnxruntime.get_available_providers()
    return available


def _remedies() -> list[dict[str, str]]:
    remedies = []
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        remedies.append(
            {
                "what": "onnxruntime and onnxruntime-gpu overwrite each other",
                "fix": "pip uninstall -y onnxruntime onnxruntime-gpu, then "
                "pip install 'w2v-edge[cpu]' or 'w2v-edge[gpu]'",
            }
        )
    if importlib.util.find_spec("onnxruntime") is not None and not _providers():
        fix = "pip install --force-reinstall 'w2v-edge[cpu]'"
        remedies.append({"what": "onnxruntime is installed and cannot be loaded", "fix": fix})
    purposes = {
        "cpu": "running bundles",
        "audio": "reading audio files and resampling",
        "cli": "writing subtitles",
        "lm": "transcribing with a language model",
        "hub": "reading models of the Hugging Face Hub",
        "export": "making checkpoints and exporting",
        "report": "pictures",
    }
    for extra, modules in EXTRAS.items():
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        if missing:
            what = f"{purposes[extra]} needs {', '.join(missing)}"
            remedies.append({"what": what, "fix": f"pip install 'w2v-edge[{extra}]'"})
    return remedies
