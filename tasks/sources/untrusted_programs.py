"""Programs in a model's files, looked through before they may run: SavedModel graphs, torch exports, Keras configs."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from storage.errors import EvaluationError
from tasks.sources.untrusted import foreign_names, refuse_code, refuse_damage, require_archive

# Operations of TensorFlow that reach files, the network, Python or other processes; what is not named here computes.
_REACHING = re.compile(
    r"""\w*(
        File(?!Inputs)|Dataset|Reader(?!s)|Iterator|RecordInput|ImmutableConst|LoadAndRemap|GenerateVocabRemapping
        |Checkpoint|DistributedSave|StatisticsSaver|DumpTensor
        |PyFunc|Rpc|Collective|RemoteCall|Abort
        |Debug(Identity|Nan|Numeric)|Summary(File|Db)?Writer|Write\w*Summary
        |EncodeProto|DecodeProto|UnigramCandidate|Skipgram
        |CustomCall|XlaHost|XlaSendToHost|XlaRecvFromHost|TRT|TfLite|TFLite
    )\w*""",
    re.VERBOSE,
)
_SAVING = re.compile(r"(DTensor)?(Save|Restore)(V2|Slices?)?|ShardedFilename|ShardedFilespec|MergeV2Checkpoints")
_VOCABULARY = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")

# Operators an exported program may call: ATen, the only library of torch without further ones in it, and arithmetic.
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!from_file)\w+(\.\w+)?|torch\.ops\.higher_order\.wrap_with_set_grad_enabled|torch\.sym_\w+"
    r"|math\.\w+|_operator\.(getitem|neg|pos|pow|add|sub|mul|truediv|floordiv|mod|eq|ne|lt|le|gt|ge|and_|or_)"
)
# Sizes are evaluated as Python: only what torch itself writes there is.
_EXPRESSION = re.compile(
    r"('\w+'|Symbol|Integer|Rational|Float|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|IntTrueDiv"
    r"|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|positive|nonnegative|integer|True|False|\d+(\.\d+)?|[-+*/(),= ])*"
)
_NAME = re.compile(r"[\w.]*")
_STRINGS = {
    "target": _OPERATOR,
    "as_operator": _OPERATOR,
    "expr_str": _EXPRESSION,
    "path_name": re.compile(r"(weight|tensor)_\d+"),
}
# Where it came from, arguments that are text, and checks of the input that are left out.
_NEVER_RUN = {"metadata", "as_string", "as_strings", "guards_code", "torch_version"}
_MEMBER = re.compile(
    r"[^/]+/(models/model\.json|data/(weights|constants)/(\w+_config\.json|weight_\d+|tensor_\d+)"
    r"|data/sample_inputs/model\.pt|archive_format|archive_version|byteorder|\.data/\w+)"
)
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict"}

# Layers of Keras that run something from elsewhere.
_FOREIGN_LAYERS = {"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
# A value of the weights takes half a byte at least, and these count some of them.
_WIDTHS = {"units", "filters", "input_dim", "output_dim", "key_dim", "value_dim"}


def require_computing_graph(saved: Any, path: Path) -> None:
    """Raise EvaluationError where a SavedModel (its protocol buffer) does more than compute.

    Saving and restoring is what its saver is for; elsewhere it is refused too, as is a vocabulary that is read from
    anywhere but the model's own assets.
    """
    for graph in saved.meta_graphs:
        stored = _assets(graph)
        for asset in stored:
            if Path(asset.filename).is_absolute() or ".." in Path(asset.filename).parts:
                raise refuse_code(f"the SavedModel reads {asset.filename}, outside its directory", path)
        assets = {asset.tensor_info.name.split(":")[0] for asset in stored}
        functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
        graphs = (graph.graph_def.node, *functions.values())
        found = sorted({node.op for nodes in graphs for node in nodes if _reaches_out(node, nodes, assets)})
        if found:
            raise refuse_code(f"the SavedModel reaches beyond its inputs: {', '.join(found)}", path)
        # As the loader decides which of its two ways to take.
        is_newer = len(saved.meta_graphs) == 1 and graph.HasField("object_graph_def")
        run = _called_functions(functions, graph.object_graph_def.concrete_functions) if is_newer else _run(graph)
        saving = sorted({node.op for node in run if _SAVING.fullmatch(node.op)})
        if saving:
            raise refuse_code(f"the SavedModel reads or writes checkpoints when it is run: {', '.join(saving)}", path)


def _assets(graph: Any) -> list[Any]:
    """The files of the model's own that a graph reads; the TF1 format keeps them in a collection."""
    from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef

    collections = [stored for key, stored in graph.collection_def.items() if key == "saved_model_assets"]
    older = [AssetFileDef.FromString(one.value) for stored in collections for one in stored.any_list.value]
    return [*graph.asset_file_def, *older]


def _reaches_out(node: Any, nodes: Iterable[Any], assets: set[str]) -> bool:
    if node.op in _VOCABULARY:
        # In a function, the name of the file is an argument; in a graph, a constant that the loader fills in.
        source = node.input[1].split(":")[0].lstrip("^")
        return any(other.name == source and other.name not in assets for other in nodes)
    if node.op == "PrintV2":
        return node.attr["output_stream"].s.startswith(b"file:")
    return bool(_REACHING.fullmatch(node.op)) and not _SAVING.fullmatch(node.op)


def _run(graph: Any) -> Iterator[Any]:
    """The nodes of a TF1-format graph that run when it is opened, initialised or called, save for restoring weights."""
    from tensorflow.core.framework.variable_pb2 import VariableDef

    nodes = {node.name: node for node in graph.graph_def.node}
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    starts = [tensor.name for one in graph.signature_def.values() for tensor in one.outputs.values()]
    for key, collection in graph.collection_def.items():
        starts += collection.node_list.value
        if key.endswith("variables"):
            starts += [VariableDef.FromString(value).initializer_name for value in collection.bytes_list.value]
    reached = list(_upstream(nodes, starts))
    yield from reached
    yield from _called_functions(functions, [name for node in reached for name in _called(node)])
    for node in _upstream(nodes, [graph.saver_def.restore_op_name]):
        if node.op.startswith(("Save", "Merge")):
            yield node


def _called_functions(functions: dict[str, Any], names: Iterable[str]) -> Iterator[Any]:
    """The nodes of these functions of a graph and of all they call."""
    pending, seen = list(names), set()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            for node in functions.get(name, ()):
                yield node
                pending += _called(node)


def _upstream(nodes: dict[str, Any], names: list[str]) -> Iterator[Any]:
    pending, seen = list(names), set()
    while pending:
        name = pending.pop().lstrip("^").split(":")[0]
        if name in nodes and name not in seen:
            seen.add(name)
            yield nodes[name]
            pending += nodes[name].input


def _called(node: Any) -> list[str]:
    single = [value.func.name for value in node.attr.values() if value.HasField("func")]
    return single + [one.name for value in node.attr.values() for one in value.list.func]


def require_plain_program(file: Path, trusted: bool) -> None:
    """Raise EvaluationError where opening a file of `torch.export.save` could run more than tensor operations.

    Opening one unpickles its sample inputs and any weights marked so, looks operators up by name, and evaluates sizes.
    """
    members = require_archive(file)
    if trusted:
        return
    for member in members:
        if not _MEMBER.fullmatch(member.filename):
            raise refuse_code(f"{file.name} holds {member.filename}, which no plain exported program does", file)
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith("sample_inputs/model.pt") and archive.getinfo(name).file_size:
                if foreign := foreign_names(io.BytesIO(archive.read(name))):
                    raise refuse_code(f"the sample inputs of {file.name} hold {', '.join(foreign)}", file)
            elif name.endswith(".json"):
                for problem in _problems(_parsed(archive.read(name), file)):
                    raise refuse_code(f"{file.name} {problem}", file)


def _problems(content: Any, key: str = "") -> Iterator[str]:
    """What of a program's description is more than tensors, their sizes and the operators between them."""
    if isinstance(content, dict):
        if content.get("use_pickle"):
            yield f"pickles {content.get('path_name')}"
        if content.get("treespec_namedtuple_fields"):
            yield "nests its values in named tuples"
        for name, value in content.items():
            if name not in _NEVER_RUN:
                yield from _problems(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _problems(value, key)
    elif not isinstance(content, str):
        return
    elif key in {"in_spec", "out_spec"}:
        yield from (f"nests its values in {name}" for name in _foreign_containers(json.loads(content or "[]")))
    elif not _STRINGS.get(key, _NAME).fullmatch(content):
        yield f"has {content[:80]!r} as {key}"


def _foreign_containers(spec: Any) -> Iterator[str]:
    if isinstance(spec, list):
        for value in spec:
            yield from _foreign_containers(value)
    elif isinstance(spec, dict):
        if spec["type"] not in _CONTAINERS or "__enum__" in str(spec.get("context")):
            yield str(spec["type"])
        yield from _foreign_containers(spec["children_spec"])


def require_plain_layers(file: Path, trusted: bool) -> None:
    """Raise EvaluationError where a `.keras` file has layers with code in them, of others, or of absurd size."""
    members = {member.filename: member.file_size for member in require_archive(file)}
    if "config.json" not in members:
        raise refuse_damage(f"{file.name} has no config.json", file)
    with zipfile.ZipFile(file) as archive:
        config = _parsed(archive.read("config.json"), file)
    most = 2 * sum(size for name, size in members.items() if name.startswith("model.weights"))
    for layer in _layers(config):
        kind, module, settings = str(layer["class_name"]), layer.get("module"), layer["config"]
        if not trusted and kind in _FOREIGN_LAYERS:
            raise refuse_code(f"{file.name} has a {kind} layer, which runs code of its own", file)
        if not trusted and isinstance(settings.get("vocabulary"), str):
            raise refuse_code(f"{file.name} reads a vocabulary from {settings['vocabulary']}", file)
        if module is not None and str(module).split(".")[0] not in {"keras", "builtins"}:
            raise refuse_damage(f"{file.name} needs {module}.{kind}, which is not part of Keras", file)
        for key in _WIDTHS & settings.keys():
            if isinstance(settings[key], int) and settings[key] > most:
                raise refuse_damage(
                    f"{file.name} says {key} of {kind} is {settings[key]:,}, and its weights are {most // 2:,} bytes",
                    file,
                )


def _layers(config: Any) -> Iterator[dict[str, Any]]:
    """Everything in a Keras config that is to be made an object of a class."""
    if isinstance(config, dict):
        if "class_name" in config and isinstance(config.get("config"), dict):
            yield config
        elif config.get("class_name") in _FOREIGN_LAYERS:
            yield {"class_name": config["class_name"], "config": {}}
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from _layers(value)


def _parsed(content: bytes, file: Path) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{file} cannot be read: {error}", subject=str(file)) from error
