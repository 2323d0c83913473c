"""Checkpoint files: where they are, which bytes they are, and whether they are fit to load. No weight is used here.

    package:DOTTED.NAME/FOLDER            a checkpoint folder that comes with an installed Python package
    path/of/a/folder                      a checkpoint folder
    owner/name or owner/name@REVISION     a Hub id; a branch or tag stands for the commit that it names today

`open_checkpoint` finds (or downloads) the files of any of them and refuses, by name and with the remedy, what must not
be loaded: a missing shard, bytes that are not those of a known hash, a truncated file, a pickle, an unknown family.
Tokens come from the environment variable HF_TOKEN only, never from a file that a login has left.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

from radar_lib.errors import RadarError
from radar_lib.files import DIGEST_LENGTH, digest_json, digest_known, read_json
from radar_lib.models.families import FAMILIES

PACKAGE = "package:"  # a checkpoint reference that is the same on every machine
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]  # what is taken from the Hub; code only if trusted
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
TRUST = "RADAR_TRUST_REMOTE_CODE"
MAX_HEADER = 100 << 20  # bytes; safetensors' own limit


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint whose files are fit to load.

    Attributes:
        reference: names it again; a Hub id carries its commit.
        digest: `id@commit`, or a folder's digest.
        shards: its weight files.
        tensors: (dtype, shape) of each tensor, from the shards' headers.
        verified: how many shards were compared with a hash that was known beforehand.
    """

    reference: str
    folder: Path
    digest: str
    model_type: str
    shards: tuple[Path, ...]
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    verified: int
    runs_code: bool

    @property
    def parameters(self) -> int:
        return sum(prod(shape) for _, shape in self.tensors.values())


def checkpoint_folder(checkpoint: str | Path) -> Path | None:
    """The folder of a checkpoint's files; None for a Hub id."""
    reference = str(checkpoint)
    if reference.startswith(PACKAGE):
        package, _, name = reference.removeprefix(PACKAGE).partition("/")
        return Path(str(files(package))) / name
    return Path(reference) if Path(reference).is_dir() else None


def hub_reference(checkpoint: str | Path) -> tuple[str, str]:
    """Hub id and commit. A branch or tag is looked up on the Hub, or offline in its local cache, once per process.

    Raises:
        RadarError: neither a folder nor a Hub id, or the Hub does not answer for it.
    """
    identifier, _, revision = str(checkpoint).partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", identifier):
        raise RadarError(f"there is no checkpoint folder {checkpoint}, and it is not a Hub id (owner/name) either.")
    return identifier, _commit(identifier, revision or "main")


@lru_cache
def _commit(identifier: str, revision: str) -> str:
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import hf_hub_download

    return Path(_from_hub(hf_hub_download, identifier, revision, filename="config.json")).parent.name


def _from_hub(call: Any, identifier: str, revision: str, **options: Any) -> str:
    """Call a huggingface_hub function that gives a path in the local cache; its errors become one with a remedy."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return call(identifier, revision=revision, token=os.environ.get("HF_TOKEN") or False, **options)
    except (HfHubHTTPError, OSError, ValueError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RadarError(
            f"cannot load checkpoint {identifier}@{revision}: {first_line}\nA Hub id needs network access (or a copy "
            'in the local cache) and, if it is gated, HF_TOKEN. Without either take a folder.'
        ) from error


def folder_digest(folder: Path) -> str:
    """Digest of the files that decide what a checkpoint computes; cards and records beside them do not count."""
    counted = {".json", ".safetensors", ".jinja", ".txt", ".model", ".py"}
    files = sorted(path for path in folder.iterdir() if path.suffix in counted and path.name != "record.json")
    return digest_json([[path.name, digest_known(path)] for path in files])


def checkpoint_digest(checkpoint: str | Path) -> str:
    """The `digest` that a loaded backbone would have, without loading it: what a cache key needs."""
    folder = checkpoint_folder(checkpoint)
    return "@".join(hub_reference(checkpoint)) if folder is None else folder_digest(folder)


def pretraining_record(checkpoint: str | Path) -> dict[str, Any] | None:
    """What a stand-in's folder says of its pretraining; None for a checkpoint without such a record."""
    folder = checkpoint_folder(checkpoint)
    path = folder / "record.json" if folder else None
    return read_json(path) if path and path.is_file() else None


def open_checkpoint(checkpoint: str | Path) -> CheckpointFiles:
    """Find a checkpoint's files, download what a Hub id still lacks, and check all of them.

    Raises:
        RadarError: the files are missing, damaged, not safetensors, or of a family that is not in the registry.
    """
    reference, folder = str(checkpoint), checkpoint_folder(checkpoint)
    if folder is not None:
        if not (folder / "config.json").is_file():
            raise RadarError(f"{reference}: {folder} holds no config.json, so it is not a checkpoint folder.")
        model_type, runs_code = _check_family(folder / "config.json", reference)
        digest = None
    else:
        from huggingface_hub import hf_hub_download, snapshot_download

        identifier, commit = hub_reference(reference)
        reference = f"{identifier}@{commit}"
        config = Path(_from_hub(hf_hub_download, identifier, commit, filename="config.json"))
        model_type, runs_code = _check_family(config, reference)  # before many gigabytes are on their way
        options = {"allow_patterns": [*FILES, "*.py"] if runs_code else FILES, "ignore_patterns": ["*/*"]}
        folder, digest = Path(_from_hub(snapshot_download, identifier, commit, **options)), reference
    shards, weight_map = _shards(folder, reference)
    tensors = {}
    for shard in shards:
        header = read_header(shard)
        absent = {name for name, file in weight_map.items() if file == shard.name} - header.keys()
        if absent:
            raise RadarError(
                f"{shard} lacks {len(absent)} weights that {INDEX} expects in it, first {min(absent)}. {_again(shard)}"
            )
        tensors |= header
    verified = _check_hashes(folder, shards)
    return CheckpointFiles(
        reference, folder, digest or folder_digest(folder), model_type, shards, tensors, verified, runs_code
    )


def may_run_code(reference: str) -> bool:
    """Whether the user has opted in to running this checkpoint's own code: its id or folder is in the variable."""
    return reference.partition("@")[0] in os.environ.get(TRUST, "").split(",")


def _check_family(config: Path, reference: str) -> tuple[str, bool]:
    """Refuse an unknown family, and code that nobody allowed. Gives the model type, and whether such code will run."""
    model_type = str(read_json(config).get("model_type"))
    if model_type not in FAMILIES:
        raise RadarError(
            f"{reference}: model type {model_type!r} is not one of {', '.join(sorted(FAMILIES))}. "
            "A new family needs a class in radar_lib/models/families.py."
        )
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if model_type in CONFIG_MAPPING_NAMES:
        return model_type, False
    if not may_run_code(reference):
        raise RadarError(
            f"{reference}: this transformers has no class for {model_type!r}; the checkpoint brings code of its own, "
            "which would run with all your rights, on your files and your posts. Read it first; then allow this one "
            f"checkpoint with the environment variable {TRUST}={reference.partition('@')[0]}, or put another in its "
            "place (a folder with checkpoints.yaml, see resolve_checkpoint)."
        )
    return model_type, True


def _shards(folder: Path, reference: str) -> tuple[tuple[Path, ...], dict[str, str]]:
    """A folder's weight files, and which tensor its index expects where (empty for a single file)."""
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,), {}
    if not (folder / INDEX).is_file():
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        if pickles:
            raise RadarError(
                f"{reference}: its weights are a pickle ({pickles[0]}), which can run any code when it is read. Only "
                "safetensors are loaded: take the checkpoint's safetensors files, or convert it where you trust it."
            )
        raise RadarError(f"{reference}: {folder} holds neither {SINGLE} nor {INDEX}. Download its safetensors files.")
    weight_map: dict[str, str] = read_json(folder / INDEX)["weight_map"]
    names = sorted(set(weight_map.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise RadarError(f"{folder / INDEX} names {name!r}, which is not a safetensors file of this folder.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise RadarError(
            f"{reference}: {len(missing)} of {len(names)} shards are missing, first {missing[0]}. Download it again."
        )
    return tuple(folder / name for name in names), weight_map


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """dtype and shape of each tensor in a safetensors file, from its header; the file must have the size that it says.

    Raises:
        RadarError: not safetensors, or truncated.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if first == b"version ":
            raise RadarError(f"{path} is a Git LFS pointer, not the weights. Run `git lfs pull` in its folder.")
        try:
            if not 0 < length <= min(size - 8, MAX_HEADER):
                raise ValueError
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            tensors = {name: (about["dtype"], tuple(about["shape"])) for name, about in header.items()}
            end = max((about["data_offsets"][1] for about in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise RadarError(f"{path} is not a safetensors file, or its header is cut off. {_again(path)}") from error
    if 8 + length + end != size:
        raise RadarError(f"{path} has {size:,} bytes, its header speaks of {8 + length + end:,}. {_again(path)}")
    return tensors


def _check_hashes(folder: Path, shards: Iterable[Path]) -> int:
    """Compare each shard with the SHA-256 that is known of it, if one is. Returns how many there were."""
    record = folder / "record.json"
    known: dict[str, str] = dict(read_json(record).get("sha256", {})) if record.is_file() else {}
    checked = 0
    for shard in shards:
        expected = known.get(shard.name) or _hub_hash(shard)
        if expected is None:
            continue
        if (digest := digest_known(shard)) != expected[:DIGEST_LENGTH]:
            raise RadarError(
                f"{shard} has the wrong hash: its bytes begin {digest}, {expected[:DIGEST_LENGTH]} is expected. "
                + _again(shard)
            )
        checked += 1
    return checked


def _hub_hash(shard: Path) -> str | None:
    """The SHA-256 that huggingface_hub noted when it downloaded a file: its cache names files by it, and a download
    into a folder leaves it in `.cache/huggingface/download/`."""
    note = shard.parent / ".cache" / "huggingface" / "download" / f"{shard.name}.metadata"
    lines = note.read_text(encoding="utf-8").splitlines() if note.is_file() else []
    for text in (shard.resolve().name, *(line.strip('"') for line in lines)):
        if re.fullmatch(r"[0-9a-f]{64}", text):
            return text
    return None


def _again(path: Path) -> str:
    return f"Delete {path.resolve()} and download it again."
