"""The schema of reports accepts exactly the reports that the reader accepts."""

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
from w2v_edge.latency.report import machine_records, records, schema
from w2v_edge.latency.report.records import BenchmarkReport

CLASSES = [
    value
    for module in (records, machine_records)
    for value in vars(module).values()
    if isinstance(value, type) and value.__module__ == module.__name__
]

ESTIMATE = records.Estimate(12.0, 11.5, 13.0)

FIGURES: dict[str, Any] = {
    name: ESTIMATE
    for name, hint in get_type_hints(records.Summary).items()
    if hint is records.Estimate
}

REPORT = BenchmarkReport(
    format="w2v-edge-latency",
    version=2,
    created="2026-05-01T12:00:00Z",
    command="w2v-edge bench base",
    device=machine_records.Device(
        identity="0123456789abcdef",
        cpu=machine_records.Cpu(
            "Cortex-A76", "aarch64", ("asimd",), 4, None, 3, (0, 1, 3), 2.5, None, 1, 2
        ),
        memory_mb=8000.0,
        memory_limit_mb=None,
        gpus=(machine_records.Gpu("NVIDIA T4", "550.54", None),),
        system="Linux 6.6",
        container=None,
        virtual=True,
        python="3.11.7",
        onnxruntime="1.20.0",
        onnxruntime_build="",
        providers=("CPUExecutionProvider",),
        packages={"numpy": "2.0.0"},
    ),
    bundles=(records.BundleRecord("base", "00", "base", "float32", "edge", 360.5),),
    audio=records.AudioRecord("shipped clips", 5, 20.5, "11"),
    settings=records.BenchmarkSettings(3, 2.0, 0.05, 60.0, 0.95, 0),
    conditions=machine_records.Conditions(
        (
            machine_records.MachineSample(0.0),
            machine_records.MachineSample(0.5, mhz=2400.0, on_battery=False),
        ),
        (
            machine_records.Disturbance(
                0.0, 0.5, "load", "other processes kept 1.0 of 4 cores busy"
            ),
        ),
    ),
    cases=(
        records.CaseResult(
            case=records.BenchmarkCase("base", "encoder", "cpu", {}, 2, "low", 5.0, 1, "single"),
            trials=(records.Trial(0.0, 1.0, 20.0, 90.0, 50.0, 30.0, (21.0,), (20.0, 20.5), 1, 10),),
            summary=records.Summary(2, **FIGURES),
            nodes={"CPUExecutionProvider": 210},
            operators=(records.Operator("MatMul", "CPUExecutionProvider", 72.0, 14.0, 0.7),),
        ),
        records.CaseResult(
            case=records.BenchmarkCase("base", "ctc", "cuda", {"a": "1"}, 2, "", 5.0, 4, "offline"),
            trials=(),
            summary=None,
            failure="no GPU",
        ),
    ),
)


@pytest.fixture
def plain() -> dict[str, Any]:
    """The report as plain JSON values."""
    text = json.dumps(strict.to_plain(REPORT), allow_nan=False)
    found: dict[str, Any] = json.loads(text)
    return found


def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(schema.shipped()))


def test_the_shipped_file_is_of_these_classes() -> None:
    """The shipped schema equals the output of `python -m w2v_edge.latency.report.schema`."""
    assert schema.shipped() == schema.to_text(schema.report_schema())


def test_the_schema_is_valid() -> None:
    """The schema is valid under draft 2020-12, and its id holds the version."""
    content = json.loads(schema.shipped())
    jsonschema.Draft202012Validator.check_schema(content)
    assert content["$id"] == f"urn:w2v-edge:latency-report:{records.VERSION}"


def test_keys_with_a_default_may_be_absent(plain: dict[str, Any]) -> None:
    """Programs of other kinds write the keys that they know."""
    for trial in plain["cases"][0]["trials"]:
        del trial["stage_peaks_mb"], trial["peaks_reset"], trial["loadgen"]
    del plain["settings"]["memory_limit_mb"], plain["peaks"]
    _validator().validate(plain)
    assert strict.from_plain(BenchmarkReport, plain) == REPORT


def test_each_field_is_described() -> None:
    """The "Attributes:" section of each class describes its fields, and only these."""
    assert len(CLASSES) > 10
    for cls in CLASSES:
        names = [field.name for field in dataclasses.fields(cls)]
        assert list(schema.field_descriptions(cls)) == names, cls.__name__


def test_a_report_goes_through_unchanged(plain: dict[str, Any]) -> None:
    """A report that is written, validated and read again is unchanged."""
    _validator().validate(plain)
    assert strict.from_plain(BenchmarkReport, plain) == REPORT


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
    data["version"] = 3


def _other_kind(data: dict[str, Any]) -> None:
    data["conditions"]["disturbances"][0]["kind"] = "noise"


def test_schema_and_reader_refuse_the_same(plain: dict[str, Any]) -> None:
    """A report that the schema rejects is rejected by the reader."""
    cases: list[Callable[[dict[str, Any]], None]] = [
        _unknown,
        _missing,
        _text_for_number,
        _boolean_for_number,
        _null_for_text,
        _other_version,
        _other_kind,
    ]
    for spoil in cases:
        wrong = copy.deepcopy(plain)
        spoil(wrong)
        assert not _validator().is_valid(wrong)
        with pytest.raises(ConfigError):
            strict.from_plain(BenchmarkReport, wrong)
