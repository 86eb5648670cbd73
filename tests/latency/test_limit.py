"""The least time: products are counted from shapes, and divided by the device's peaks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tests.latency.reports import CASE, report, result
from w2v_edge.latency.limit import least_time
from w2v_edge.latency.measure.peaks import measure_peaks
from w2v_edge.latency.measure.processes import Job
from w2v_edge.latency.measure.trial import operator_times
from w2v_edge.latency.report.records import BenchmarkCase, Operator, Peaks


def profiled(
    folder: Path, node: Any, inputs: dict[str, npt.NDArray[Any]], **weights: npt.NDArray[Any]
) -> dict[str, Operator]:
    """Run a graph of one operator with a profile; return the operator types in it."""
    import onnxruntime

    given = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape
        )
        for name, x in inputs.items()
    ]
    output = onnx.ValueInfoProto(name=node.output[0])
    held = [onnx.numpy_helper.from_array(x, name) for name, x in weights.items()]
    sets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "graph", given, [output], held),
        opset_imports=sets,
        ir_version=10,
    )
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    session.run(None, inputs)
    session.run(None, inputs)
    events = json.loads(Path(session.end_profiling()).read_bytes())
    return {x.operator: x for x in operator_times(events, 1)[1]}


def floats(*shape: int) -> npt.NDArray[np.float32]:
    return np.ones(shape, np.float32)


def test_a_product_counts_rows_columns_and_inner_axis(tmp_path: Path) -> None:
    """Also with a weight that onnxruntime packs, whose shape the profile does not show."""
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    found = profiled(tmp_path, node, {"x": floats(2, 5, 7)}, w=floats(7, 3))["MatMul"]
    assert (found.arithmetic, found.multiplications) == ("float32", 2 * 5 * 7 * 3)


def test_a_transposed_factor_changes_no_count(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Gemm", ["x", "w"], ["y"], transA=1, transB=1)
    found = profiled(tmp_path, node, {"x": floats(7, 5)}, w=floats(3, 7))["Gemm"]
    assert found.multiplications == 5 * 7 * 3


def test_a_batch_of_weights_counts_each_row_once(tmp_path: Path) -> None:
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    broadcast = {"x": floats(1, 5, 7), "w": floats(4, 7, 3)}
    assert profiled(tmp_path, node, broadcast)["MatMul"].multiplications == 4 * 5 * 7 * 3


def test_bytes_are_told_from_floats(tmp_path: Path) -> None:
    node = onnx.helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    found = profiled(tmp_path, node, {"x": np.ones((5, 7), np.uint8)}, w=np.ones((7, 3), np.int8))[
        "MatMulInteger"
    ]
    assert (found.arithmetic, found.multiplications) == ("int8", 5 * 7 * 3)


def test_a_convolution_counts_its_filter_for_each_value(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], group=2, strides=[2])
    found = profiled(tmp_path, node, {"x": floats(1, 6, 21)}, w=floats(4, 3, 5))["Conv"]
    assert found.multiplications == 4 * 9 * 3 * 5


def test_attention_counts_scores_and_sums(tmp_path: Path) -> None:
    node = onnx.helper.make_node(
        "MultiHeadAttention", ["q", "k", "v"], ["y"], num_heads=2, domain="com.microsoft"
    )
    inputs = {"q": floats(3, 5, 8), "k": floats(3, 7, 8), "v": floats(3, 7, 8)}
    found = profiled(tmp_path, node, inputs)["MultiHeadAttention"]
    assert found.multiplications == 2 * 3 * 5 * 7 * 8


def test_an_operator_without_products_counts_nothing(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Softmax", ["x"], ["y"])
    found = profiled(tmp_path, node, {"x": floats(5, 7)})["Softmax"]
    assert (found.arithmetic, found.multiplications) == ("", 0)


def test_the_least_time_is_the_products_at_the_peaks() -> None:
    """Of 3 ms float32 and 2 ms int8 products, unless reading the weights takes longer."""
    made, case = with_operators(
        Operator("MatMul", "CPUExecutionProvider", 1, 9.0, 0.5, "float32", 3e9),
        Operator("MatMulInteger", "CPUExecutionProvider", 1, 5.0, 0.3, "int8", 8e9),
        Operator("Gelu", "CPUExecutionProvider", 1, 4.0, 0.2),
    )
    least = least_time(made, case)
    assert least is not None
    assert least.products_ms == pytest.approx({"float32": 3.0, "int8": 2.0})
    assert least.ms == pytest.approx(5.0)
    heavy = least_time(made, replace(case, weights_mb=80.0))
    assert heavy is not None
    assert heavy.ms == pytest.approx(8.0)


def test_products_that_could_not_be_counted_give_no_least_time() -> None:
    made, case = with_operators(
        Operator("Einsum", "CPUExecutionProvider", 1, 9.0, 1.0, "float32", None)
    )
    assert least_time(made, case) is None


def test_other_providers_and_threads_have_no_least_time() -> None:
    made, case = with_operators(
        Operator("MatMul", "CPUExecutionProvider", 1, 9.0, 1.0, "float32", 3e9)
    )
    for other in ({"provider": "cuda"}, {"threads": 5}):
        changed = replace(case, case=replace(case.case, **other))
        assert least_time(made, changed) is None


def test_the_peaks_of_this_device() -> None:
    """The shipped graphs run on onnxruntime, and speeds are of the right order."""
    case = BenchmarkCase("any", "encoder", "cpu", {}, 1, "high", 1.0, 1, "single")
    peaks = Peaks(**measure_peaks(Job("", case, "", 0.0), 0.0))
    assert peaks.threads == 1
    assert all(1e8 < x < 1e15 for x in (peaks.float32, peaks.int8, peaks.memory))


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_the_shipped_graphs_are_made_by_their_script(name: str) -> None:
    from bench.peak_graphs import FOLDER, graph

    shipped = onnx.load_from_string((FOLDER / f"{name}.onnx").read_bytes())
    assert shipped == onnx.load_from_string(graph(name))


def with_operators(*operators: Operator) -> tuple[Any, Any]:
    """Return a report with peaks, and a case of it with these operators."""
    case = result(replace(CASE, provider="cpu", threads=2))
    measured = replace(case, operators=operators)
    return replace(report(measured), peaks=(Peaks(2, 1e12, 4e12, 1e10),)), measured
