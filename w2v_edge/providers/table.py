"""The table of execution providers: where they come from, and the options they run with."""

from __future__ import annotations

from dataclasses import dataclass, field

CPU_BATCH_SECONDS, ACCELERATOR_BATCH_SECONDS = 6.0, 160.0
"""Batch sizes in seconds of audio. Larger batches gain nothing on a CPU: one utterance fills it."""

CPU_GROUP_SECONDS, ACCELERATOR_GROUP_SECONDS = 60.0, 600.0


@dataclass(frozen=True)
class Plugin:
    """Package with a provider's library, beside any onnxruntime of version 1.23 or newer.

    Attributes:
        package: distribution.
        module: its module, with `get_library_path()`.
        options: default options; `{threads}` stands for the number of threads, and `device_type`
            for the kind of device.
        bfloat16: options that replace them to compute in bfloat16.
        without_device: what to do if it serves no device, written like `ProviderInfo.install`.
    """

    package: str
    module: str
    options: dict[str, str] = field(default_factory=dict)
    bfloat16: dict[str, str] = field(default_factory=dict)
    without_device: str = "check the driver"


@dataclass(frozen=True)
class ProviderInfo:
    """One execution provider.

    Attributes:
        ort_name: onnxruntime's name.
        wheel: distribution that contains it; empty if none does.
        install: instruction to install it; `{gpu}` stands for the pip command of that extra, see
            `w2v_edge.extras.with_commands`.
        options: default options; `{threads}` stands for the number of threads.
        bfloat16: options that make it compute float32 graphs in bfloat16; empty if none does.
        half: options with which it computes float32 graphs in float16, its own defaults included;
            empty if it does not.
        cached: options that cache compiled graphs in the folder `{cache}`.
        tunable: options that `w2v-edge tune` tries, with their values; none makes results less
            exact.
        device: onnxruntime's name of the device of its tensors; `cpu` also for providers that copy
            tensors themselves.
        library: file that onnxruntime loads, for NVIDIA providers; else empty.
        buckets: whether it compiles or tunes again for each length of audio.
        serial: whether it runs one graph at a time.
        forks: whether a forked child can open it again. Drivers and process-wide thread pools do
            not survive a fork.
        batch_seconds: seconds of audio in a batch, padding included.
        group_seconds: seconds of audio that are buffered to form batches.
        plugin: package that adds it to an onnxruntime without it; None if there is none.
    """

    ort_name: str
    wheel: str
    install: str
    options: dict[str, str] = field(default_factory=dict)
    bfloat16: dict[str, str] = field(default_factory=dict)
    half: dict[str, str] = field(default_factory=dict)
    cached: dict[str, str] = field(default_factory=dict)
    tunable: dict[str, tuple[str, ...]] = field(default_factory=dict)
    device: str = "cpu"
    library: str = ""
    buckets: bool = False
    serial: bool = False
    forks: bool = False
    batch_seconds: float = ACCELERATOR_BATCH_SECONDS
    group_seconds: float = ACCELERATOR_GROUP_SECONDS
    plugin: Plugin | None = None


def _alone(command: str) -> str:
    return f"in an environment without onnxruntime run: {command}"


def _openvino_config(**of_cpu: str) -> str:
    """Return the option `load_config`, with the braces of JSON doubled, for `str.format`."""
    inner = ", ".join(f'"{key}": "{value}"' for key, value in of_cpu.items())
    return f'{{{{"CPU": {{{{{inner}}}}}}}}}'


TABLE: dict[str, ProviderInfo] = {
    "cpu": ProviderInfo(
        "CPUExecutionProvider",
        "onnxruntime",
        "reinstall it: {cpu} --force-reinstall",
        forks=True,
        batch_seconds=CPU_BATCH_SECONDS,
        group_seconds=CPU_GROUP_SECONDS,
    ),
    "cuda": ProviderInfo(
        "CUDAExecutionProvider",
        "onnxruntime-gpu",
        _alone("{gpu}"),
        options={
            # The default, an exhaustive search, runs again for each new length of audio.
            "cudnn_conv_algo_search": "HEURISTIC",
            # TF32 keeps 10 bits of each factor: outputs would miss the parity tolerances.
            "use_tf32": "0",
            # The default doubles the arena at each step, and never returns the peak.
            "arena_extend_strategy": "kSameAsRequested",
        },
        tunable={
            "cudnn_conv_algo_search": ("EXHAUSTIVE", "DEFAULT"),
            "cudnn_conv_use_max_workspace": ("0",),
        },
        device="cuda",
        serial=True,
        library="libonnxruntime_providers_cuda.so",
        buckets=True,
    ),
    "tensorrt": ProviderInfo(
        "TensorrtExecutionProvider",
        "onnxruntime-gpu",
        _alone("{gpu}"),
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
        serial=True,
        library="libonnxruntime_providers_tensorrt.so",
        buckets=True,
    ),
    "openvino": ProviderInfo(
        "OpenVINOExecutionProvider",
        "onnxruntime-openvino",
        _alone("{openvino}"),
        # No `cache_dir`: on the CPU reading a compiled graph, with another copy of the weights,
        # takes longer than compiling. Its kernels are not specialised for a length.
        options={
            "device_type": "CPU",
            # By default OpenVINO uses bf16 where the processor has it: outputs would miss the
            # tolerances of the parity gate.
            "precision": "FP32",
            "num_of_threads": "{threads}",
        },
        # It has precedence over `precision`.
        bfloat16={"load_config": _openvino_config(INFERENCE_PRECISION_HINT="bf16")},
        batch_seconds=CPU_BATCH_SECONDS,
        group_seconds=CPU_GROUP_SECONDS,
        plugin=Plugin(
            "onnxruntime-ep-openvino",
            "onnxruntime_ep_openvino",
            # It ignores the options above.
            options={
                "device_type": "CPU",
                "load_config": _openvino_config(
                    INFERENCE_PRECISION_HINT="f32", INFERENCE_NUM_THREADS="{threads}"
                ),
            },
            bfloat16={
                "load_config": _openvino_config(
                    INFERENCE_PRECISION_HINT="bf16", INFERENCE_NUM_THREADS="{threads}"
                ),
            },
            # Its library passes over every device whose vendor is not Intel.
            without_device="it serves Intel's devices only: on others, " + _alone("{openvino}"),
        ),
    ),
    "coreml": ProviderInfo(
        "CoreMLExecutionProvider",
        "onnxruntime",
        "on macOS run: {cpu}",
        # The older format lacks most operators of a transformer.
        options={"ModelFormat": "MLProgram"},
        # Compiling a graph for the Neural Engine takes seconds to minutes.
        cached={"ModelCacheDirectory": "{cache}"},
        buckets=True,
    ),
    "directml": ProviderInfo(
        "DmlExecutionProvider",
        "onnxruntime-directml",
        "on Windows, " + _alone("pip install onnxruntime-directml"),
        device="dml",
        serial=True,
        buckets=True,
    ),
    "qnn": ProviderInfo(
        "QNNExecutionProvider",
        "onnxruntime-qnn",
        "run: pip install onnxruntime-qnn",
        # The default is in some releases the CPU backend, a reference for tests.
        options={"backend_type": "htp"},
        half={"backend_type": "htp", "enable_htp_fp16_precision": "1"},
        buckets=True,
        plugin=Plugin("onnxruntime-qnn", "onnxruntime_qnn", options={"backend_type": "htp"}),
    ),
    "xnnpack": ProviderInfo(
        "XnnpackExecutionProvider",
        "",
        "build onnxruntime with --use_xnnpack",
        # It has its own thread pool, in addition to onnxruntime's.
        options={"intra_op_num_threads": "{threads}"},
        forks=True,
        batch_seconds=CPU_BATCH_SECONDS,
        group_seconds=CPU_GROUP_SECONDS,
    ),
    "webgpu": ProviderInfo(
        "WebGpuExecutionProvider",
        "onnxruntime-webgpu",
        "run: pip install onnxruntime-ep-webgpu",
        device="webgpu",
        serial=True,
        plugin=Plugin(
            "onnxruntime-ep-webgpu",
            "onnxruntime_ep_webgpu",
            without_device="on Linux install libvulkan1 and a GPU's Vulkan driver; "
            "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER=1 allows a driver in software",
        ),
    ),
    "tensorrt-rtx": ProviderInfo(
        "NvTensorRTRTXExecutionProvider",
        "",
        "run: pip install onnxruntime-ep-nv-tensorrt-rtx",
        device="cuda",
        serial=True,
        buckets=True,
        plugin=Plugin("onnxruntime-ep-nv-tensorrt-rtx", "onnxruntime_ep_nv_tensorrt_rtx"),
    ),
}
