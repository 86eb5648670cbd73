"""Errors that a user can cause, one class per cause.

Each message is one line: what was found, what was expected, what to do. Each class also derives
from the builtin error that fits, and has the exit code of the command line.

    W2VEdgeError                         exit 1
    |-- InputError (ValueError)          an unusable waveform, length or audio file
    |   |-- AudioFileError               a file that cannot be read as audio
    |   `-- SampleRateError              a sample rate that is invalid or cannot be converted
    |-- CheckpointError (ValueError)     a checkpoint that cannot be loaded
    |   `-- UnsafeCheckpointError        a pickle that would run code
    |-- ConfigError (ValueError)         a configuration with a wrong, missing or unknown key
    |-- BundleError (ValueError)         a bundle that does not match its manifest
    |   |-- BundleIntegrityError         a file that is missing, damaged or modified
    |   |-- BundleVersionError           a bundle of a newer format
    |   |-- GraphMissingError            a graph that the model does not have
    |   `-- HeadMissingError             a task for which the model has no head
    |-- IndexMismatchError (ValueError)  an index of embeddings, damaged or of another bundle
    |-- OutputExistsError (FileExistsError)
    |-- ProviderError (RuntimeError)     an execution provider that does not run
    |-- InferenceError (RuntimeError)    a graph that onnxruntime could not open or run
    |-- MissingExtraError (ImportError)  an optional dependency that is not installed
    |-- TuningError (ValueError)         a tuning that is missing, damaged or of another device
    |-- TrainingError (RuntimeError)     a training run that cannot start or continue
    |-- RemoteError (RuntimeError)       a device that cannot be reached, or a run that failed there
    |-- PartialFailureError              some inputs of a job failed
    |-- ParityError                      exit 3: the bundle differs from PyTorch
    |-- AccuracyError                    exit 3: quantized weights miss a budget
    |-- RegressionError                  exit 4: slower than the baseline
    `-- BudgetError                      exit 5: a latency or memory limit is exceeded
"""

from __future__ import annotations

from typing import ClassVar

from w2v_edge.extras import install_command

MAX_FOREIGN_CHARACTERS = 200
"""Maximum length of another library's message within an error."""


class W2VEdgeError(Exception):
    """Base class of all errors in this module."""

    exit_code: ClassVar[int] = 1


class InputError(W2VEdgeError, ValueError):
    """A waveform, a length or an audio file is unusable."""


class AudioFileError(InputError):
    """A file cannot be read as audio."""


class SampleRateError(InputError):
    """A sample rate is invalid, or cannot be converted because soxr is not installed."""


class CheckpointError(W2VEdgeError, ValueError):
    """A checkpoint cannot be loaded."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint's pickle would run code; it was not run."""


class ConfigError(W2VEdgeError, ValueError):
    """A configuration has a wrong, missing or unknown key."""


class BundleError(W2VEdgeError, ValueError):
    """A bundle does not match its manifest."""


class BundleIntegrityError(BundleError):
    """A file of a bundle is missing, damaged or modified."""


class BundleVersionError(BundleError):
    """A bundle has a newer format than this release reads."""


class GraphMissingError(BundleError):
    """The model does not have the requested graph."""


class HeadMissingError(BundleError):
    """The model has no head for the requested task."""


class IndexMismatchError(W2VEdgeError, ValueError):
    """An index of embeddings is missing, damaged, empty, or of another bundle."""


class OutputExistsError(W2VEdgeError, FileExistsError):
    """An output exists and may not be overwritten."""


class ProviderError(W2VEdgeError, RuntimeError):
    """A requested execution provider does not run."""


class InferenceError(W2VEdgeError, RuntimeError):
    """onnxruntime could not open or run a graph."""


class MissingExtraError(W2VEdgeError, ImportError):
    """An optional dependency is not installed.

    Args:
        purpose: what needs it, the start of the message.
        module: name of the missing module.
        extras: extras of the package to install.
    """

    def __init__(self, purpose: str, module: str, *extras: str) -> None:
        super().__init__(
            f"{purpose} needs {module!r}, which is not installed; run: {install_command(*extras)}"
        )


class TuningError(W2VEdgeError, ValueError):
    """A tuning is missing, damaged, or of another device."""


class TrainingError(W2VEdgeError, RuntimeError):
    """A training run cannot start with these options, or cannot continue."""


class RemoteError(W2VEdgeError, RuntimeError):
    """A device cannot be reached or used, or a verb failed there."""


class PartialFailureError(W2VEdgeError):
    """Some inputs of a job failed; the others were processed."""


class ParityError(W2VEdgeError):
    """A bundle's outputs differ from PyTorch by more than the tolerances."""

    exit_code: ClassVar[int] = 3


class AccuracyError(W2VEdgeError):
    """Quantized weights lose more accuracy, or gain less speed, than the budgets allow."""

    exit_code: ClassVar[int] = 3


class RegressionError(W2VEdgeError):
    """A bundle is significantly slower than the baseline, by more than the threshold."""

    exit_code: ClassVar[int] = 4


class BudgetError(W2VEdgeError):
    """A bundle exceeds a limit on latency, memory or another metric."""

    exit_code: ClassVar[int] = 5


def one_line(error: Exception) -> str:
    """Return another library's message on one line, shortened in the middle."""
    text = " ".join(str(error).split())
    return text if len(text) <= MAX_FOREIGN_CHARACTERS else f"{text[:90]} ... {text[-110:]}"
