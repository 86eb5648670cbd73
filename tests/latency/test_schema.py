"""The schema of reports: what it accepts is what is read, and nothing else."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any, get_type_hints

import jsonschema
import pytest

from w2v_edge import strict
from w2v_edge.errors import ConfigError
from w2v_edge.latency import conditions, device, report, schema
from w2v_edge.latency.report import Report

CLASSES = [
    value
    for module in (conditions, device, report)
    for value in vars(module).values()
    if isinstance(value, type) and value.__module__ == module.__name__
]

ESTIMATE = report.Estimate(12.0, 11.5, 13.0)

FIGURES: dict[str, Any] = {
    name: ESTIMATE
    for name, hint in get_type_hints(report.Summary).items()
    if hint is report.Estimate
}

REPORT = Report(
    format="w2v-edge-latency",
    version=1,
    created="2026-05-01T12:00:00Z",
    command="w2v-edge bench base",
    device=device.Device(
        identity="0123456789abcdef",
        cpu=device.Cpu("Cortex-A76", "aarch64", ("asimd",), 4, None, 3, (0, 1, 3), 2.5, None, 1, 2),
        memory_mb=8000.0,
        memory_limit_mb=None,
        gpus=(device.Gpu("NVIDIA T4", "550.54", None),),
        system="Linux 6.6",
        container=None,
        virtual=True,
        python="3.11.7",
        onnxruntime="1.20.0",
        onnxruntime_build="",
        providers=("CPUExecutionProvider",),
        packages={"numpy": "2.0.0"},
    ),
    bundles=(report.BundleRecord("base", "00", "base", "float32", "edge", 360.5),),
    audio=report.AudioRecord("shipped clips", 5, 20.5, "11"),
    settings=report.Settings(3, 2.0, 0.05, 60.0, 0.95, 0),
    conditions=conditions.Conditions(
        (conditions.Sample(0.0), conditions.Sample(0.5, mhz=2400.0, on_battery=False)),
        (conditions.Disturbance(0.0, 0.5, "load", "other processes kept 1.0 of 4 cores busy"),),
    ),
    cases=(
        report.CaseResult(
            case=report.Case("base", "encoder", "cpu", {}, 2, "low", 5.0, 1, "single"),
            trials=(report.Trial(0.0, 1.0, 20.0, 90.0, 50.0, 30.0, (21.0,), (20.0, 20.5), 1, 10),),
            summary=report.Summary(2, **FIGURES),
            nodes={"CPUExecutionProvider": 210},
            operators=(report.Operator("MatMul", "CPUExecutionProvider", 72.0, 14.0, 0.7),),
        ),
        report.CaseResult(
            case=report.Case("base", "ctc", "cuda", {"a": "1"}, 2, "", 5.0, 4, "offline"),
            trials=(),
            summary=None,
            failure="no GPU",
        ),
    ),
)


@pytest.fixture
def plain() -> dict[str, Any]:
    """The report as its JSON text says it."""
    text = json.dumps(strict.to_plain(REPORT), allow_nan=False)
    found: dict[str, Any] = json.loads(text)
    return found


def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(schema.shipped()))


def test_the_shipped_file_is_of_these_classes() -> None:
    """The schema that is shipped is what `python -m w2v_edge.latency.schema` writes now."""
    assert schema.shipped() == schema.to_text(schema.report_schema())


def test_it_is_a_schema() -> None:
    """The schema is a valid one of draft 2020-12, and names itself with its version."""
    content = json.loads(schema.shipped())
    jsonschema.Draft202012Validator.check_schema(content)
    assert content["$id"] == f"urn:w2v-edge:latency-report:{report.VERSION}"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_each_field_is_described(cls: Any) -> None:
    """Each class says under "Attributes:" what each of its fields is, and nothing of others."""
    names = [field.name for field in dataclasses.fields(cls)]
    assert list(schema.field_descriptions(cls)) == names


def test_a_report_goes_through_unchanged(plain: dict[str, Any]) -> None:
    """A report that is written, checked by the schema and read again is the same report."""
    _validator().validate(plain)
    assert strict.from_plain(Report, plain) == REPORT


def _unknown(data: dict[str, Any]) -> None:
    data["device"]["cpu"]["colour"] = "green"


def _missing(data: dict[str, Any]) -> None:
    del data["settings"]["seed"]


def _text_for_number(data: dict[str, Any]) -> None:
    data["cases"][0]["summary"]["p50_ms"]["value"] = "12.0"


def _boolean_for_number(data: dict[str, Any]) -> None:
    data["cases"][0]["trials"][0]["late"] = True


def _null_for_text(data: dict[str, Any]) -> None:
    data["device"]["system"] = None


def _other_version(data: dict[str, Any]) -> None:
    data["version"] = 2


def _other_kind(data: dict[str, Any]) -> None:
    data["conditions"]["disturbances"][0]["kind"] = "noise"


@pytest.mark.parametrize(
    "spoil",
    [
        _unknown,
        _missing,
        _text_for_number,
        _boolean_for_number,
        _null_for_text,
        _other_version,
        _other_kind,
    ],
)
def test_what_is_wrong_is_refused_by_both(
    plain: dict[str, Any], spoil: Callable[[dict[str, Any]], None]
) -> None:
    """What the schema refuses, reading refuses, too."""
    wrong = copy.deepcopy(plain)
    spoil(wrong)
    assert not _validator().is_valid(wrong)
    with pytest.raises(ConfigError):
        strict.from_plain(Report, wrong)
