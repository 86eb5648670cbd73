"""The execution providers, a row each: where they come from and the options they run with."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One execution provider.

    Attributes:
        ort_name: what onnxruntime calls it.
        wheel: the distribution that brings it; empty where none does.
        install: what to type to get it.
        options: defaults; `{threads}` stands for the number of threads.
        cached: options for a folder in which compiled graphs are kept, `{cache}`.
        tunable: options that `w2v-edge tune` tries, with their values; none makes results less
            exact.
        device: where its tensors lie, by onnxruntime's name; `cpu` also for those that copy
            themselves.
        library: of NVIDIA's, the file that onnxruntime loads it from.
        buckets: whether it compiles or tunes anew for every length of audio.
        forks: whether a forked child can open it again. Drivers and global pools of threads do
            not live on in a child.
    """

    ort_name: str
    wheel: str
    install: str
    options: dict[str, str] = field(default_factory=dict)
    cached: dict[str, str] = field(default_factory=dict)
    tunable: dict[str, tuple[str, ...]] = field(default_factory=dict)
    device: str = "cpu"
    library: str = ""
    buckets: bool = False
    forks: bool = False


def _wheel(name: str) -> str:
    return f"in an environment without onnxruntime run: pip install '{name}'"


TABLE: dict[str, Row] = {
    "cpu": Row(
        "CPUExecutionProvider",
        "onnxruntime",
        "reinstall it: pip install --force-reinstall 'w2v-edge[cpu]'",
        forks=True,
    ),
    "cuda": Row(
        "CUDAExecutionProvider",
        "onnxruntime-gpu",
        _wheel("w2v-edge[gpu]"),
        options={
            # The default, an exhaustive search, runs again for every new length of audio.
            "cudnn_conv_algo_search": "HEURISTIC",
            # TF32 keeps 10 bits of each factor: outputs would miss the bars of the parity gate.
            "use_tf32": "0",
            # The default doubles what it holds at each step: lengths vary, peaks would stay.
            "arena_extend_strategy": "kSameAsRequested",
        },
        tunable={
            "cudnn_conv_algo_search": ("EXHAUSTIVE", "DEFAULT"),
            "cudnn_conv_use_max_workspace": ("0",),
        },
        device="cuda",
        library="libonnxruntime_providers_cuda.so",
        buckets=True,
    ),
    "tensorrt": Row(
        "TensorrtExecutionProvider",
        "onnxruntime-gpu",
        _wheel("w2v-edge[gpu]"),
        # Half precision is the export's decision, not the provider's.
        options={"trt_fp16_enable": "0"},
        # An engine takes minutes to build, for each graph and each length.
        cached={
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": "{cache}",
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": "{cache}",
        },
        device="cuda",
        library="libonnxruntime_providers_tensorrt.so",
        buckets=True,
    ),
    "openvino": Row(
        "OpenVINOExecutionProvider",
        "onnxruntime-openvino",
        _wheel("w2v-edge[openvino]"),
        # No `cache_dir`: for the CPU it takes longer to read what was compiled, another copy of
        # the weights, than to compile. Lengths may be any: its kernels are not made for one.
        options={
            "device_type": "CPU",
            # Left to itself OpenVINO takes bf16 where the processor has it: outputs would miss
            # the bars of the parity gate.
            "precision": "FP32",
            "num_of_threads": "{threads}",
        },
    ),
    "coreml": Row(
        "CoreMLExecutionProvider",
        "onnxruntime",
        "on macOS run: pip install 'w2v-edge[cpu]'",
        # The older format lacks most operators of a transformer.
        options={"ModelFormat": "MLProgram"},
        # Compiling a graph for the Neural Engine takes seconds to minutes.
        cached={"ModelCacheDirectory": "{cache}"},
        buckets=True,
    ),
    "directml": Row(
        "DmlExecutionProvider",
        "onnxruntime-directml",
        "on Windows, " + _wheel("onnxruntime-directml"),
        device="dml",
        buckets=True,
    ),
    "qnn": Row(
        "QNNExecutionProvider",
        "onnxruntime-qnn",
        "on Windows on Arm, " + _wheel("onnxruntime-qnn"),
        # The CPU backend, where it is the default, is a reference for tests.
        options={"backend_type": "htp"},
        buckets=True,
    ),
    "xnnpack": Row(
        "XnnpackExecutionProvider",
        "",
        "build onnxruntime with --use_xnnpack",
        # It has threads of its own, beside those of the session.
        options={"intra_op_num_threads": "{threads}"},
        forks=True,
    ),
    "webgpu": Row(
        "WebGpuExecutionProvider",
        "onnxruntime-webgpu",
        _wheel("onnxruntime-webgpu"),
        device="webgpu",
    ),
}
