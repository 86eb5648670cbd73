"""Every error a user can cause, one class a cause.

Each message is one line: what was found, what was expected, what to do. Each class also is the
builtin error a caller would reach for, and carries the exit code of the command line.

    W2VEdgeError                         exit 1
    |-- InputError (ValueError)          a waveform, a length or an audio file
    |   |-- AudioFileError               a file that cannot be read as audio
    |   `-- SampleRateError              a rate that cannot be brought to the model's
    |-- CheckpointError (ValueError)     a checkpoint that cannot be loaded
    |   `-- UnsafeCheckpointError        a pickle that would run code
    |-- ConfigError (ValueError)         a configuration with a wrong, missing or unknown key
    |-- BundleError (ValueError)         a bundle that is not what its manifest says
    |   |-- BundleIntegrityError         a file that is missing, damaged or was changed
    |   |-- BundleVersionError           a bundle of a newer format
    |   |-- GraphMissingError            a graph that this model does not have
    |   `-- HeadMissingError             a task that this model has no head for
    |-- OutputExistsError (FileExistsError)
    |-- ProviderError (RuntimeError)     an execution provider that does not run
    |-- InferenceError (RuntimeError)    a graph that onnxruntime could not open or run
    |-- MissingExtraError (ImportError)  an optional dependency that is not installed
    |-- TuningError (ValueError)         a tuning that is not there, or not for this device
    |-- TrainingError (RuntimeError)     a training that cannot go on, or not as asked
    |-- PartialFailureError              some inputs of a job failed, the others are done
    |-- ParityError                      exit 3: the bundle differs from PyTorch
    |-- AccuracyError                    exit 3: quantized weights break a budget
    |-- RegressionError                  exit 4: slower than before
    `-- BudgetError                      exit 5: slower or larger than a limit
"""

from __future__ import annotations

from typing import ClassVar

LONGEST = 200
"""Characters of another library's message within one of these."""


class W2VEdgeError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code: ClassVar[int] = 1


class InputError(W2VEdgeError, ValueError):
    """A waveform, a length or an audio file that cannot be used."""


class AudioFileError(InputError):
    """A file that cannot be read as audio."""


class SampleRateError(InputError):
    """A sample rate that is wrong and cannot be converted here."""


class CheckpointError(W2VEdgeError, ValueError):
    """A checkpoint that cannot be loaded."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint whose pickle would run code; it was refused unexecuted."""


class ConfigError(W2VEdgeError, ValueError):
    """A configuration with a wrong, missing or unknown key."""


class BundleError(W2VEdgeError, ValueError):
    """A bundle that is not what its manifest says."""


class BundleIntegrityError(BundleError):
    """A file of a bundle that is missing, damaged or was changed."""


class BundleVersionError(BundleError):
    """A bundle of a format newer than this release reads."""


class GraphMissingError(BundleError):
    """A graph that this model does not have."""


class HeadMissingError(BundleError):
    """A task that this model has no head for."""


class OutputExistsError(W2VEdgeError, FileExistsError):
    """An output that is already there and may not be overwritten."""


class ProviderError(W2VEdgeError, RuntimeError):
    """An execution provider that was asked for and does not run."""


class InferenceError(W2VEdgeError, RuntimeError):
    """A graph that onnxruntime could not open or run."""


class MissingExtraError(W2VEdgeError, ImportError):
    """An optional dependency that is not installed."""

    def __init__(self, purpose: str, module: str, extra: str) -> None:
        """Say which pip line brings in `module`, needed for `purpose`."""
        super().__init__(
            f"{purpose} needs {module!r}, which is not installed; "
            f"run: pip install 'w2v-edge[{extra}]'"
        )


class TuningError(W2VEdgeError, ValueError):
    """A tuning that is not there, damaged, or of another device."""


class TrainingError(W2VEdgeError, RuntimeError):
    """A training that cannot go on, or not as was asked."""


class PartialFailureError(W2VEdgeError):
    """Some inputs of a job failed; the others were done."""


class ParityError(W2VEdgeError):
    """A bundle that differs from PyTorch beyond the bars of the gate."""

    exit_code: ClassVar[int] = 3


class AccuracyError(W2VEdgeError):
    """Quantized weights that cost more accuracy, or gain less speed, than was asked for."""

    exit_code: ClassVar[int] = 3


class RegressionError(W2VEdgeError):
    """A bundle that became slower, beyond doubt and beyond a threshold."""

    exit_code: ClassVar[int] = 4


class BudgetError(W2VEdgeError):
    """A bundle that takes more than a limit on latency, memory or the like."""

    exit_code: ClassVar[int] = 5


def one_line(error: Exception) -> str:
    """Return the message of an error of another library, on one line: its start and its end."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else f"{text[:90]} ... {text[-110:]}"
