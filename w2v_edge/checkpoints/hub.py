"""Downloads models from the Hugging Face Hub, with its cache and its offline mode."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from w2v_edge.checkpoints.huggingface.folder import ADAPTERS, JSON_FILES
from w2v_edge.checkpoints.huggingface.language_model import ALPHABET, FOLDER, README
from w2v_edge.checkpoints.huggingface.lora import LORA_CONFIG, LORA_WEIGHTS
from w2v_edge.checkpoints.huggingface.settings import CONFIG
from w2v_edge.checkpoints.tensors import BIN, SAFETENSORS, read_json
from w2v_edge.errors import CheckpointError, MissingExtraError

NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""`owner/model`, or `owner/model@revision`."""

FILE_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".json", ".onnx")


def is_hub_name(source: str) -> bool:
    """Return whether `source` is a model name on the Hub rather than a path."""
    return (
        NAME.fullmatch(source) is not None
        and not source.endswith(FILE_ENDINGS)
        and not source.startswith(".")
        and not Path(source.partition("@")[0]).exists()
    )


def download(source: str, language: str | None = None, *, language_model: bool = False) -> Path:
    """Download a model's files unless they are cached, and return their folder.

    Args:
        source: `owner/model` or `owner/model@revision`.
        language: language adapter to download, if any.
        language_model: whether to download the language model, if there is one.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        CheckpointError: the model does not exist, or is neither cached nor accessible.
    """
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("reading a model from the Hub", "huggingface_hub", "hub") from error
    name, _, revision = source.partition("@")
    try:
        with _quiet():
            hub = _Hub(name, revision, cached_only=not _answers(name, revision))
            folder = hub.folder(language)
            if language_model:
                hub.fetch_language_model()
            return folder
    except CheckpointError:
        raise
    except Exception as error:
        # Any error of the network, the Hub or its library becomes one line.
        raise CheckpointError(
            f"{source}: cannot be downloaded from the Hugging Face Hub: {_reason(error)}; check "
            "the name and the network, or give a folder"
        ) from error


@dataclass(frozen=True)
class _Hub:
    """A model on the Hub.

    Attributes:
        name: `owner/model`.
        revision: branch, tag or commit; empty for the latest.
        cached_only: use cached files alone, because the Hub cannot be reached.
    """

    name: str
    revision: str
    cached_only: bool = False

    def folder(self, language: str | None) -> Path:
        """Fetch all files of a model, or of a LoRA, and return their folder."""
        config = self.fetch_if_there(CONFIG)
        for file in JSON_FILES[1:]:
            self.fetch_if_there(file)
        if not self.fetch_weights():
            return self.lora(config)
        folder = self.fetch(CONFIG).parent
        for pattern in ADAPTERS if language is not None else ():
            if self.fetch_if_there(pattern.format(language)):
                break
        return folder

    def fetch(self, file: str) -> Path:
        """Fetch a file unless it is cached, and return its path in the cache."""
        from huggingface_hub import hf_hub_download

        path = hf_hub_download(
            self.name,
            file,
            revision=self.revision or None,
            local_files_only=self.cached_only,
        )
        return Path(path)

    def fetch_if_there(self, file: str) -> Path | None:
        """Fetch a file, or return None if the model has no such file."""
        from huggingface_hub import constants
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return self.fetch(file)
        except LocalEntryNotFoundError:
            # In offline mode a file that is not cached counts as absent. Else an unreachable file
            # is an error, unless the Hub has reported it absent before.
            if constants.HF_HUB_OFFLINE or self.known_absent(file):
                return None
            raise
        except EntryNotFoundError:
            return None

    def known_absent(self, file: str) -> bool:
        """Return whether the cache records that the Hub has no such file."""
        from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

        found = try_to_load_from_cache(self.name, file, revision=self.revision or None)
        return found is _CACHED_NO_EXIST

    def fetch_weights(self) -> bool:
        """Fetch the weights, including all shards, and return whether there are any."""
        for file in (SAFETENSORS, BIN):
            if self.fetch_if_there(file):
                return True
            index = self.fetch_if_there(f"{file}.index.json")
            if index:
                for shard in sorted(set(read_json(index).get("weight_map", {}).values())):
                    self.fetch(shard)
                return True
        return False

    def fetch_language_model(self) -> None:
        """Fetch the files of the language model, and those that state its licence."""
        from huggingface_hub import snapshot_download

        wanted = [f"{FOLDER}/*", ALPHABET, README, "LICEN?E*"]
        snapshot_download(
            self.name,
            revision=self.revision or None,
            allow_patterns=wanted,
            local_files_only=self.cached_only,
        )

    def lora(self, config: Path | None) -> Path:
        """Fetch a LoRA and return its folder.

        Args:
            config: the config of a model without weights, if there is one.
        """
        adapter = self.fetch_if_there(LORA_CONFIG)
        if adapter is not None:
            any(self.fetch_if_there(file) for file in LORA_WEIGHTS)
            return adapter.parent
        if config is None:
            self.fetch(CONFIG)
        raise CheckpointError(
            f"{self.name}: expected weights, {SAFETENSORS} or {BIN}, found neither"
        )


def _answers(name: str, revision: str) -> bool:
    """Return whether the Hub answers one request; True in offline mode, which sends none.

    The library itself retries each file for half a minute.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return True
    try:
        url = hf_hub_url(name, CONFIG, revision=revision or None)
        get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except HfHubHTTPError:
        # An answer, such as that there is no such model.
        return True
    except Exception:  # noqa: BLE001 - each release's HTTP client has errors of its own
        return False
    return True


NO_CONFIG = f"no {CONFIG} in it; if it has a .pt file instead, download that"
REASONS = {
    "LocalEntryNotFoundError": (
        "{endpoint} cannot be reached, and the model is not completely cached (HF_HUB_OFFLINE=1 "
        "uses the cached files)"
    ),
    "GatedRepoError": "request access on the model's page (then: hf auth login)",
    "RepositoryNotFoundError": "no such model, or a private one (then: hf auth login)",
    "RevisionNotFoundError": "no such revision",
    "EntryNotFoundError": NO_CONFIG,
    "RemoteEntryNotFoundError": NO_CONFIG,
}
"""Text for the library's errors, by class."""


def _reason(error: Exception) -> str:
    from huggingface_hub import constants

    names = [kind.__name__ for kind in type(error).__mro__]
    endpoint = constants.ENDPOINT
    known = (REASONS[name].format(endpoint=endpoint) for name in names if name in REASONS)
    line = (str(error).split("\n", maxsplit=1)[0] or names[0]).strip()
    return next(known, f"{line:.120}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's warnings about retries."""
    # By its own functions: the library sets the level anew when it imports its logging.
    from huggingface_hub.utils import logging as library

    level = library.get_verbosity()
    library.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        library.set_verbosity(level)
