"""A model hub that speaks the Hugging Face API: what it lists and tells of models, and their files.

The token is taken from HF_TOKEN and nowhere else, and is kept nowhere. HF_ENDPOINT names another hub.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from storage.errors import EvaluationError, ShiftError, StoreError
from storage.fingerprints import fingerprint_of
from storage.settings import current_settings
from tasks.sources.pretrained import DTYPES, describe_pretrained

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

LISTING = "hf://models"
_DEFAULT_LIMIT = 50
_FILTERS = ("task", "search", "author", "library", "tags", "sort", "limit")
_SORTS = ("downloads", "likes", "created_at", "last_modified", "trending_score")
_EXPANDED = ("cardData", "config", "gated", "library_name", "pipeline_tag", "safetensors", "sha", "siblings", "tags")

_TEXT_TASKS = {
    "feature-extraction",
    "fill-mask",
    "multiple-choice",
    "question-answering",
    "sentence-similarity",
    "summarization",
    "table-question-answering",
    "text-classification",
    "text-generation",
    "text-ranking",
    "text2text-generation",
    "token-classification",
    "translation",
    "zero-shot-classification",
}
_IMAGE_TASKS = {
    "depth-estimation",
    "image-classification",
    "image-feature-extraction",
    "image-segmentation",
    "image-to-image",
    "keypoint-detection",
    "mask-generation",
    "object-detection",
    "zero-shot-image-classification",
    "zero-shot-object-detection",
}
# Bytes of a number, by its type as safetensors abbreviates it.
_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "F8_E4M3": 1, "F8_E5M2": 1}

# What describes a model, and all of the files beside the weights that say how it is built and fed.
_CONFIGURATION = ("config.json", "preprocessor_config.json", "tokenizer_config.json")
_SMALL_SUFFIXES = (".json", ".txt", ".model", ".py")
_INDEX = ".index.json"
# Free space that a download leaves on the disk.
_SPARE_BYTES = 500_000_000


@dataclass(frozen=True)
class Snapshot:
    """The files of a model at one commit, with their bytes. `path` is the folder that has them all, where one does."""

    handle: str
    commit: str | None
    files: Mapping[str, int]
    path: Path | None = None

    @property
    def missing_bytes(self) -> int:
        return 0 if self.path else sum(self.files.values())


def listed_models(url: str) -> Iterator[ModelInfo]:
    """What the hub lists for `hf://models?task=…&search=…&author=…&library=…&tags=…&sort=…&limit=…`.

    Raises StoreError for a filter that does not exist or fit, and when the hub cannot answer.
    """
    filters = _filters_of(url)
    tags = [tag for key in ("library", "tags") for tag in filters.get(key, "").split(",") if tag]
    query: dict[str, Any] = {key: filters[key] for key in ("search", "author", "sort") if key in filters}
    with reasons(url):
        yield from _api().list_models(
            **query,
            pipeline_tag=filters.get("task"),
            filter=tags or None,
            limit=int(filters.get("limit", _DEFAULT_LIMIT)),
            expand=list(_EXPANDED),  # type: ignore[arg-type]
        )


def look_up(handle: str, revision: str | None = None) -> ModelInfo:
    """What the hub tells of one model, with the sizes of its files. Raises StoreError saying what to do."""
    with reasons(handle, revision):
        return _api().model_info(handle, revision=revision, files_metadata=True)


def describe(info: ModelInfo) -> dict[str, Any]:
    """Catalog columns of a model by what the hub tells and its small configuration files; no weights are read.

    Raises EvaluationError where it is of neither text nor images, or has nothing that could be opened.
    """
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    weights = _weights_among(sizes)
    if "config.json" not in sizes or not weights:
        lacks = "weights (*.safetensors)" if "config.json" in sizes else "config.json"
        raise EvaluationError(f"{info.id} has no {lacks}: it is no model that transformers opens", subject=info.id)
    if info.safetensors is None and any(sizes[name] is None for name in weights):
        # A listing tells no sizes of files.
        sizes = {file.rfilename: file.size for file in look_up(info.id, info.sha).siblings or ()}
    card = info.card_data.to_dict() if info.card_data else {}
    columns = _described_by_configuration(info, sizes)
    return {
        **columns,
        **not_downloaded(info.id, info.sha),
        **_parameters(info, [sizes[name] for name in weights]),
        "modality": _modality(info, columns["modality"]),
        "upstream_dataset": _first(card.get("datasets")),
        "licence": _first(card.get("license")),
        "tags": ",".join(tag for tag in info.tags or () if ":" not in tag and "," not in tag),
    }


def not_downloaded(handle: str, revision: str | None) -> dict[str, Any]:
    """Columns of a model whose weights are not here: what it is called stands in for its content."""
    return {
        "source": "huggingface",
        "handle": handle,
        "revision": revision,
        "path": "",
        "fingerprint": fingerprint_of("hub", handle, revision),
        "signature": "",
    }


def is_gated(info: ModelInfo) -> bool:
    """Whether its files are given only to accounts that asked for access."""
    return bool(info.gated)


def find_snapshot(handle: str, revision: str | None) -> Snapshot:
    """Which files of a model are to be had, and where they are if they were downloaded before.

    A hub out of reach is not needed where the files are. Raises StoreError saying what to do.
    """
    here = find_download(handle, revision)
    if here is not None:
        return Snapshot(handle, here.name, {}, here)
    info = look_up(handle, revision)
    assert info.sha is not None
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    weights = _weights_among(sizes)
    small = [name for name in sizes if _is_small(name)]
    return Snapshot(
        handle, info.sha, {name: sizes[name] for name in (*small, *weights)}, find_download(handle, info.sha)
    )


def download(snapshot: Snapshot, report: Callable[[int], None]) -> Path:
    """Bring the files here, going on where an earlier attempt stopped; `report` is told of bytes as they come.

    Raises StoreError saying what to do.
    """
    if snapshot.path is not None:
        return snapshot.path
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            # Of its three bars the library calls this one the snapshot's: bytes as they are written.
            self._counts = options.get("name") == "huggingface_hub.snapshot_download"
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts:
                report(int(n or 0))
            return None

    cache = current_settings().models
    with reasons(snapshot.handle, snapshot.commit):
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
        if free < snapshot.missing_bytes + _SPARE_BYTES:
            raise OSError(errno.ENOSPC, f"{snapshot.missing_bytes:,} bytes are needed, and {free:,} free")
        return Path(
            snapshot_download(
                snapshot.handle,
                revision=snapshot.commit,
                cache_dir=cache,
                allow_patterns=[escape(name) for name in snapshot.files],
                token=_token(),
                tqdm_class=Bar,
            )
        )


@contextmanager
def reasons(handle: str, revision: str | None = None) -> Iterator[None]:
    """Turn whatever goes wrong between here and the hub into a StoreError that says what to do."""
    try:
        yield
    except ShiftError:
        raise
    except Exception as error:
        message, fix = _reason(error, handle, revision)
        raise StoreError(message, subject=handle, fix=fix) from error


def _reason(error: Exception, handle: str, revision: str | None) -> tuple[str, str]:
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case errors.GatedRepoError():
            page = f"{constants.ENDPOINT}/{handle}"
            token = "a token of that account" if _token() is False else "a token of an account that has it"
            return f"{handle} is gated", f"ask for access at {page} and set HF_TOKEN to {token}"
        case errors.RevisionNotFoundError():
            return f"{handle} has no revision {revision!r}", "give a branch, tag or commit that it has"
        case errors.RepositoryNotFoundError() | errors.HfHubHTTPError() if status in (401, 404):
            # To who has no token the hub does not tell which it is.
            fix = "check the name; a private model needs HF_TOKEN set to a token that may read it"
            return f"there is no model {handle} at {constants.ENDPOINT}, or it is private", fix
        case errors.HFValidationError():
            return f"{handle} is no hub id: {_first_line(error)}", "write owner/name, or owner/name@revision"
        case OSError() if error.errno == errno.ENOSPC:
            message = f"there is no space for {handle} in {current_settings().models}: {error.strerror}"
            return message, "free some, lower SHIFT_MODELS_LIMIT, or set SHIFT_HOME to a larger disk"
        case errors.HfHubHTTPError() if status == 429:
            return f"{constants.ENDPOINT} refuses more requests for now", "ask again later, or set HF_TOKEN"
        case errors.HfHubHTTPError() if status is not None:
            return f"{constants.ENDPOINT} cannot answer for {handle}: {_first_line(error)}", "ask again later"
    if constants.is_offline_mode():
        return "it is not downloaded, and HF_HUB_OFFLINE is set", "unset it, or download the model elsewhere"
    # The same words for every model of a pool: listings say them once.
    message = f"{constants.ENDPOINT} cannot be reached: {type(error).__name__}: {_first_line(error)}"
    return message, "check the network and HF_ENDPOINT; what came is kept, and asking again goes on from there"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _filters_of(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    filters = dict(parse_qsl(parts.query, keep_blank_values=True))
    if f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}" != LISTING:
        raise StoreError(f"{url} is no listing of models", subject=url, fix=f"write {LISTING}?task=…&limit=…")
    for key, value in filters.items():
        if key not in _FILTERS:
            raise StoreError(f"the hub's models have no filter {key!r}", subject=key, allowed=_FILTERS)
        if not value:
            raise StoreError(f"the filter {key} has no value", subject=url, fix=f"write {key}=… or leave it out")
    if filters.get("sort", _SORTS[0]) not in _SORTS:
        raise StoreError(f"models cannot be sorted by {filters['sort']!r}", subject=filters["sort"], allowed=_SORTS)
    limit = filters.get("limit", "1")
    if not limit.isdecimal() or int(limit) < 1:
        raise StoreError(f"limit is {limit!r}", subject=url, fix="write a whole number above 0")
    return filters


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(token=_token())


def _token() -> str | Literal[False]:
    # False: not even one that another program has saved.
    return os.environ.get("HF_TOKEN") or False


def _weights_among(names: Iterable[str]) -> list[str]:
    """The files with the weights: safetensors, whole or in parts, where there are any, else pickled ones."""
    at_root = sorted(name for name in names if "/" not in name)
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        # Weights of another precision beside them have a word between: model.fp16.safetensors.
        usual = [name for name in at_root if name == f"{stem}{suffix}" or _is_part(name, stem, suffix)]
        if usual:
            return usual
        if others := [name for name in at_root if suffix == ".safetensors" and name.endswith(suffix)]:
            return others
    return []


def _is_part(name: str, stem: str, suffix: str) -> bool:
    return name.startswith(f"{stem}-") and name.endswith(suffix) and "-of-" in name


def _is_small(name: str) -> bool:
    if name.startswith(".") or name.endswith(".bin" + _INDEX):
        return False
    # How a sentence transformer pools is said in a folder of its own.
    return name.endswith("_Pooling/config.json") or ("/" not in name and name.endswith(_SMALL_SUFFIXES))


def _described_by_configuration(info: ModelInfo, names: Iterable[str]) -> dict[str, Any]:
    """Columns by a model's small files; where access to them has to be asked for, by what the hub tells of them."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    cache = current_settings().models
    wanted = [name for name in names if name in _CONFIGURATION]
    with reasons(info.id, info.sha):
        try:
            paths = [
                hf_hub_download(info.id, name, revision=info.sha, cache_dir=cache, token=_token()) for name in wanted
            ]
            return describe_pretrained(Path(paths[0]).parent, [])
        except GatedRepoError:
            with TemporaryDirectory() as folder:
                Path(folder, "config.json").write_text(json.dumps(info.config or {}))
                return describe_pretrained(Path(folder), [])


def _modality(info: ModelInfo, by_config: str) -> str:
    if info.pipeline_tag in _TEXT_TASKS:
        return "text"
    if info.pipeline_tag in _IMAGE_TASKS:
        return "image"
    if info.pipeline_tag is None:
        return by_config
    raise EvaluationError(f"{info.id} is for {info.pipeline_tag}: neither texts nor images go in", subject=info.id)


def _parameters(info: ModelInfo, sizes: list[int | None]) -> dict[str, Any]:
    """Number type, parameters and bytes of the weights, as far as they are told."""
    by_type: Mapping[str, int] = info.safetensors.parameters if info.safetensors else {}
    most = max(by_type, key=lambda name: by_type[name], default="")
    size: int | None = None
    if None not in sizes:
        size = sum(each or 0 for each in sizes)
    elif by_type and by_type.keys() <= _BYTES.keys():
        size = sum(number * _BYTES[name] for name, number in by_type.items())
    return {
        "dtype": DTYPES.get(most),
        "num_params": info.safetensors.total if info.safetensors else None,
        "size_bytes": size,
    }


def _first(value: Any) -> str | None:
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, str) else None


def find_download(handle: str, revision: str | None) -> Path | None:
    """The folder with all files of a model at a revision, if this home or the hub library's own cache has one."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    for cache in (current_settings().models, HF_HUB_CACHE):
        config = try_to_load_from_cache(handle, "config.json", cache_dir=cache, revision=revision)
        if isinstance(config, str) and _is_complete(Path(config).parent):
            return Path(config).parent
    return None


def _is_complete(path: Path) -> bool:
    """Whether a snapshot has its configuration and all its weights; a link to a file that is gone is no file."""
    names = {file.name for file in path.iterdir() if file.is_file()}
    weights = _weights_among(names)
    wanted = {"config.json"}
    for index in (path / name for name in names if name.endswith(_INDEX)):
        if index.name.removesuffix(_INDEX) in ("model.safetensors", "pytorch_model.bin"):
            wanted |= set(json.loads(index.read_text())["weight_map"].values())
    return bool(weights) and wanted <= names
