"""What is checked of a model's files before a library opens them: nobody vouches for files from a hub.

Code in the files is refused unless the model is trusted; files that would eat memory or disk, always. All checks
read headers and configs only.
"""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from storage.errors import EvaluationError

# A safetensors file begins with the length of its header; the limit is the format's own (MAX_HEADER_SIZE).
_LENGTH_BYTES = 8
_LONGEST_HEADER_BYTES = 100_000_000
# Weights hardly compress, and up to this much is harmless whatever it was packed from.
_HARMLESS_BYTES = 256 << 20
_MOST_EXPANSION = 10
_LONGEST_CONFIG_BYTES = 64 << 20

_ZIP = b"PK\x03\x04"

# All that a pickle of tensors names, see torch/_weights_only_unpickler.py.
_NAMES_OF_TENSORS = re.compile(
    r"collections\.OrderedDict|torch\.(Size|device|\w+Storage|storage\.(Untyped|Typed)Storage)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|torch\.serialization\._get_layout"
    r"|torch\.(bool|bfloat16|u?int\d+|float\d+|complex\d+)"
)
_OTHER_WAYS_TO_NAME = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"}

# Where transformers expects the name of an attention it has, it fetches what looks like a hub id.
_KERNEL_OF_THE_HUB = re.compile(r'"\w*_implementation": (\{[^}]*)?"[^"]*/[^"]*"')

# How many layers are plausible: the weights' headers are not read for it.
_MOST_LAYERS = 1000
_MOST_SHARING = 64
_HARMLESS_VALUES = 1 << 18
_LONGEST_SIDE = 8192
_LARGEST_SIZE = 1 << 31
_WIDTHS = {"hidden_size", "d_model", "n_embd", "dim"}
_ROWS = {"vocab_size", "intermediate_size", "d_ff", "n_inner", "embed_dim", "hidden_sizes"}
_SIDES = {"image_size", "height", "width", "shortest_edge", "longest_edge", "crop_size", "size", "input_size"}
_DEPTHS = {"num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "depths"}
_NO_SIZES = re.compile(r"theta|seed|(^|_)ids?$|factor|max_length")


def refuse_code(what: str, path: Path) -> EvaluationError:
    """The refusal of files that can run code, which a person may overrule for this one model and then try again."""
    return EvaluationError(
        f"{what}; that is opened only where the model is trusted",
        transient=True,
        subject=str(path),
        fix=f"if you trust its author, mark it trusted: shiftql models add NAME {path} --trust",
    )


def refuse_damage(what: str, path: Path) -> EvaluationError:
    """The refusal of files that no trust makes right."""
    return EvaluationError(what, subject=str(path), fix="get the files again, from where they were published")


def require_links_inside(root: Path) -> None:
    """Raise EvaluationError where a link in a model's directory leads out of it.

    The blobs of the Hugging Face cache, which the links of its snapshots lead to, count as inside.
    """
    inside = [root.resolve()]
    if inside[0].parent.name == "snapshots":
        inside.append(inside[0].parents[1] / "blobs")
    for file in root.rglob("*"):
        if file.is_symlink() and not any(file.resolve().is_relative_to(folder) for folder in inside):
            raise refuse_code(f"{file.relative_to(root)} is a link to {file.readlink()}, outside the directory", root)
    for file in root.glob("*.index.json"):
        for part in set(read_json(file).get("weight_map", {}).values()):
            if Path(part).name != part:
                raise refuse_code(f"{file.name} names weights in {part}, outside the directory", root)


def require_no_code(root: Path) -> None:
    """Raise EvaluationError where a Hugging Face directory's configs ask for code of its own, or of the hub's.

    A model that transformers knows too is opened with transformers' code, whatever its config offers.
    """
    for file in sorted(root.glob("*config.json")):
        config = read_json(file)
        if kernel := _KERNEL_OF_THE_HUB.search(json.dumps(config)):
            raise refuse_code(f"{file.name} asks for code of the hub ({kernel[0]})", root)
        if "auto_map" in config and not _is_known(read_json(root / "config.json").get("model_type")):
            raise refuse_code(f"{file.name} asks for code of the model's own (auto_map)", root)


def _is_known(model_type: Any) -> bool:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return model_type in CONFIG_MAPPING_NAMES


def require_header(file: Path) -> None:
    """Raise EvaluationError where a safetensors file's header cannot be as long as it says."""
    with file.open("rb") as opened:
        told = opened.read(_LENGTH_BYTES)
    length = int.from_bytes(told, "little")
    if len(told) == _LENGTH_BYTES and length > _LONGEST_HEADER_BYTES:
        raise refuse_damage(
            f"the header of {file.name} would take {length:,} bytes; {_LONGEST_HEADER_BYTES:,} are allowed",
            file.parent,
        )


def require_archive(file: Path) -> list[zipfile.ZipInfo]:
    """The members of a zip archive. Raises EvaluationError where it is none, or unpacks to far more than it is."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise refuse_damage(f"{file.name} is no zip archive: {error}", file) from error
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(_HARMLESS_BYTES, _MOST_EXPANSION * file.stat().st_size):
        raise refuse_damage(
            f"{file.name} has {file.stat().st_size:,} bytes and would unpack to {unpacked:,}: a zip bomb", file
        )
    if len({member.filename for member in members}) < len(members):
        raise refuse_damage(f"{file.name} has two members of one name", file)
    return members


def require_tensors_only(file: Path, trusted: bool) -> None:
    """Raise EvaluationError where a file of `torch.save` holds more than tensors, or would unpack to far more."""
    with file.open("rb") as opened:
        if opened.read(len(_ZIP)) == _ZIP:
            require_archive(file)
        if not trusted and (names := foreign_names(opened)):
            raise refuse_code(f"{file.name} is a pickle that holds more than tensors: {', '.join(names)}", file.parent)


def foreign_names(saved: IO[bytes]) -> list[str]:
    """What the pickles in a stream of `torch.save` name that no tensor needs, sorted; none of it is imported."""
    saved.seek(0)
    if saved.read(len(_ZIP)) == _ZIP:
        with zipfile.ZipFile(saved) as archive:
            pickles = [archive.read(name) for name in archive.namelist() if name.endswith(".pkl")]
        return sorted({name for pickle in pickles for name in _foreign(pickletools.genops(pickle))})
    saved.seek(0)
    found: set[str] = set()
    # The older format: a number, a version, the machine, the tensors and their keys, one pickle after another.
    for _ in range(5):
        found |= set(_foreign(pickletools.genops(saved)))
    return sorted(found)


def _foreign(operations: Iterable[tuple[Any, Any, Any]]) -> Iterator[str]:
    try:
        for operation, argument, _ in operations:
            if operation.name in _OTHER_WAYS_TO_NAME:
                yield operation.name
            elif operation.name == "GLOBAL":
                name = argument.replace(" ", ".")
                if not _NAMES_OF_TENSORS.fullmatch(name):
                    yield name
    except ValueError as error:
        yield f"what is no pickle ({error})"


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises EvaluationError when there is none."""
    try:
        if file.stat().st_size > _LONGEST_CONFIG_BYTES:
            raise ValueError("it is too long")
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise EvaluationError(f"{file} cannot be read: {error}", subject=str(file.parent)) from error
    if not isinstance(content, dict):
        raise EvaluationError(f"{file} is not a JSON object", subject=str(file.parent))
    return content


def require_possible_sizes(config: Mapping[str, Any], size_bytes: int, file: Path) -> None:
    """Raise EvaluationError where a config describes a network far larger than weights of that size can be of.

    A row of weights takes half a byte at least. Layers may share their weights, but not all that many do.
    """
    # Weights that are cut off or empty are told apart from absurd sizes when they are opened.
    values = max(2 * size_bytes, _HARMLESS_VALUES)
    widest = longest = deepest = 1
    for key, size in _sizes(config):
        if key in _WIDTHS | _ROWS:
            most, longest = values, max(longest, size)
            widest = max(widest, size) if key in _WIDTHS else widest
        elif key in _DEPTHS:
            most, deepest = _MOST_LAYERS, max(deepest, size)
        else:
            most = _LONGEST_SIDE if key in _SIDES else _LARGEST_SIZE
        if size > most:
            raise refuse_damage(f"{file} says {key} is {size:,}; of these weights {most:,} are plausible", file.parent)
    if widest * longest * deepest > _MOST_SHARING * values:
        raise refuse_damage(
            f"{file} describes {deepest:,} layers, {widest:,} wide and up to {longest:,} long; "
            f"the weights are {size_bytes:,} bytes",
            file.parent,
        )


def _sizes(config: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Every number of a config that may be a size, with its key."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            yield from _sizes(value, name)
    elif isinstance(config, list):
        for value in config:
            yield from _sizes(value, key)
    elif isinstance(config, int) and not isinstance(config, bool) and not _NO_SIZES.search(key):
        yield key, config
