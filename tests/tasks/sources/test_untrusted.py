"""Hostile models, made here: each is refused with the reason, soon, and nothing it wants done is done."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import os
import pickle
import re
import shutil
import struct
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from tasks.host import Host
from tasks.registration import describe_model, inspect_model
from tasks.sources import guess_source, source_named
from tests.torch_models import save_programs

# Looking through a model must not take longer; libraries are loaded before.
_SECONDS = 5.0
_ABSURD = 10**12


class _Code:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._canary),)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """What hostile code would make; that it did not is checked after every test."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@pytest.fixture
def bert(pool: Any, tmp_path: Path) -> Path:
    return shutil.copytree(pool.models["bert"], tmp_path / "bert")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("programs")
    save_programs(root)
    return root


def _refused(path: Path, reason: str, mended_by_trust: bool) -> None:
    """It is refused when it is registered and when it is opened; where that is offered, trust lets it through."""
    source = source_named(guess_source(path))
    record = ModelRecord(
        name="hostile", source=source.name, path=str(path), fingerprint="", signature="", modality="image"
    )
    for attempt in (lambda: describe_model(source.name, str(path)), lambda: source.open(record)):
        started = time.perf_counter()
        with pytest.raises(EvaluationError, match=reason) as caught:
            attempt()
        assert time.perf_counter() - started < _SECONDS
        assert ("--trust" in (caught.value.fix or "")) == mended_by_trust
        # What trust mends is worth another try on the same files.
        assert caught.value.transient == mended_by_trust
    if mended_by_trust:
        source.require_safe(path, trusted=True)
    else:
        with pytest.raises(EvaluationError, match=reason):
            source.require_safe(path, trusted=True)


def _change_config(path: Path, name: str = "config.json", **settings: Any) -> None:
    file = path / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def _zip_of_pickle(content: Any, protocol: int) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=protocol))
        archive.writestr("archive/version", "3")
    return target.getvalue()


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("is_archive", [True, False])
def test_pickles_with_code_are_refused(bert: Path, canary: Path, protocol: int, is_archive: bool) -> None:
    (bert / "model.safetensors").unlink()
    code = {"weight": _Code(canary)}
    content = _zip_of_pickle(code, protocol) if is_archive else pickle.dumps(code, protocol=protocol)
    (bert / "pytorch_model.bin").write_bytes(content)
    _refused(bert, "a pickle that holds more than tensors", mended_by_trust=True)


def test_pickles_of_tensors_are_opened_without_trust(bert: Path) -> None:
    import torch

    weights = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    for is_archive in (True, False):
        tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        torch.save(tensors, bert / "pytorch_model.bin", _use_new_zipfile_serialization=is_archive)
        source_named("huggingface").require_safe(bert, trusted=False)
        assert inspect_model(str(bert))["num_params"] is None


def test_code_of_the_models_own_is_refused(bert: Path, canary: Path) -> None:
    (bert / "modeling_evil.py").write_text(f"import os; os.mkdir({str(canary)!r})")
    _change_config(bert, model_type="evil", auto_map={"AutoModel": "modeling_evil.Evil"})
    _refused(bert, "auto_map", mended_by_trust=True)


def test_where_transformers_has_its_own_code_the_models_own_is_not_run(bert: Path, canary: Path) -> None:
    (bert / "evil.py").write_text(f"import os; os.mkdir({str(canary)!r})")
    _change_config(bert, auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"})
    record = ModelRecord(**inspect_model(str(bert)), name="two ways")
    source_named("huggingface").open(record).close()


def test_a_tokenizer_of_the_models_own_is_not_run(bert: Path, canary: Path) -> None:
    (bert / "evil.py").write_text(f"import os; os.mkdir({str(canary)!r})")
    _change_config(
        bert, "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    )
    record = ModelRecord(**inspect_model(str(bert)), name="evil tokens")
    with contextlib.suppress(EvaluationError):  # Whether transformers finds another tokenizer is its own affair.
        source_named("huggingface").open(record).close()


@pytest.mark.parametrize("where", ["config", "part"])
def test_attention_fetched_from_the_hub_is_refused(bert: Path, where: str) -> None:
    asked = {"_attn_implementation": "someone/kernel"}
    _change_config(bert, **(asked if where == "config" else {"text_config": asked}))
    _refused(bert, "asks for code of the hub", mended_by_trust=True)


def test_links_out_of_the_directory_are_refused(bert: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (bert / "special_tokens_map.json").unlink(missing_ok=True)
    (bert / "special_tokens_map.json").symlink_to(secret)
    _refused(bert, "is a link to .*secret.json, outside the directory", mended_by_trust=True)


def test_an_index_of_weights_that_lie_elsewhere_is_refused(bert: Path) -> None:
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other/model.safetensors"}}))
    _refused(bert, r"names weights in \.\./other/model\.safetensors", mended_by_trust=True)


def test_the_layout_of_the_hugging_face_cache_is_no_link_out(bert: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--someone--bert" / "snapshots" / "0123"
    blobs = tmp_path / "models--someone--bert" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(bert.iterdir()):
        shutil.move(file, blobs / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    assert inspect_model(str(snapshot))["modality"] == "text"
    (snapshot / "added.json").symlink_to("/etc/hostname")
    _refused(snapshot, "outside the directory", mended_by_trust=True)


def test_a_header_longer_than_the_format_allows_is_refused(bert: Path) -> None:
    (bert / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{}" * 100)
    _refused(bert, r"header of model\.safetensors would take 1,099,511,627,776 bytes", mended_by_trust=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_size": _ABSURD},
        {"hidden_size": 10**6},
        {"hidden_size": 10**4},
        {"intermediate_size": 10**5, "num_hidden_layers": 900},
        {"intermediate_size": _ABSURD},
        {"vocab_size": _ABSURD},
        {"num_hidden_layers": 10**6},
        {"max_position_embeddings": _ABSURD},
        {"num_attention_heads": _ABSURD},
        {"text_config": {"hidden_size": _ABSURD}},
        {"hidden_sizes": [8, _ABSURD]},
        {"depths": [1, 10**6]},
        {"image_size": 10**6},
    ],
    ids=str,
)
def test_sizes_that_the_weights_cannot_have_are_refused(bert: Path, settings: dict[str, Any]) -> None:
    _change_config(bert, **settings)
    _refused(bert, r"config\.json (says \w+ is [\d,]+|describes [\d,]+ layers)", mended_by_trust=False)


def test_images_of_absurd_size_are_refused(bert: Path) -> None:
    (bert / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 10**6, "width": 10**6}}))
    _refused(bert, "says height is 1,000,000; of these weights 8,192 are plausible", mended_by_trust=False)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "{}" + " " * (65 << 20)], ids=len)
def test_configs_that_are_no_configs_are_refused(bert: Path, content: str) -> None:
    (bert / "config.json").write_text(content)
    _refused(bert, r"config\.json cannot be read", mended_by_trust=False)


def _bomb(file: Path, member: str) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, b"small")
        archive.filelist[0].file_size = 1 << 40


def test_archives_that_unpack_to_far_more_are_refused(bert: Path, tmp_path: Path) -> None:
    (bert / "model.safetensors").unlink()
    _bomb(bert / "pytorch_model.bin", "archive/data.pkl")
    _refused(bert, "zip bomb", mended_by_trust=False)
    for name, member in (("bomb.keras", "config.json"), ("bomb.pt2", "bomb/models/model.json")):
        _bomb(tmp_path / name, member)
        _refused(tmp_path / name, "zip bomb", mended_by_trust=False)


def test_files_that_are_no_archives_are_refused(tmp_path: Path) -> None:
    for name in ("torn.keras", "torn.pt2"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 torn")
        _refused(tmp_path / name, "no zip archive", mended_by_trust=False)


def _layer(kind: str, module: str | None, **settings: Any) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": settings, "registered_name": None}


@pytest.mark.parametrize(
    ("layer", "reason", "mended_by_trust"),
    [
        (_layer("Lambda", "keras.layers", function={"class_name": "__lambda__"}), "Lambda layer", True),
        (_layer("Dense", "keras.layers", activation={"class_name": "__lambda__", "config": {}}), "__lambda__", True),
        (_layer("TFSMLayer", "keras.layers", filepath="/somewhere"), "TFSMLayer", True),
        (_layer("StringLookup", "keras.layers", vocabulary="/etc/passwd"), "vocabulary from /etc/passwd", True),
        (_layer("Popen", "subprocess", args=["true"]), r"needs subprocess\.Popen", False),
        (_layer("Dense", "keras.layers", units=_ABSURD), "units of Dense is 1,000,000,000,000", False),
    ],
    ids=str,
)
def test_layers_with_code_of_others_or_of_absurd_size_are_refused(
    tmp_path: Path, layer: dict[str, Any], reason: str, mended_by_trust: bool
) -> None:
    file = tmp_path / "hostile.keras"
    network = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", json.dumps(network))
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", bytes(1000))
    source = source_named("keras")
    with pytest.raises(EvaluationError, match=reason):
        inspect_model(str(file))
    if mended_by_trust:
        source.require_safe(file, trusted=True)


def _rewritten(file: Path, target: Path, change: Callable[[str, bytes], bytes], *added: str) -> Path:
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name in added:
            new.writestr(f"{old.namelist()[0].split('/')[0]}/{name}", b"")
    return target


def _replaced(old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    return lambda name, content: re.sub(old, lambda _: new, content) if name.endswith(".json") else content


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"torch.ops.aten.relu.default", b"torch.os.system", r"has 'torch\.os\.system' as target"),
        (b"torch.ops.aten.relu.default", b"_operator.methodcaller", "as target"),
        (b"torch.ops.aten.relu.default", b"torch.ops.aten.from_file.default", "as target"),
        (rb"Symbol\('s\d+', positive=True, integer=True\)", b"__import__('os').getcwd()", "as expr_str"),
        (b'"use_pickle": false', b'"use_pickle": true', "pickles weight_0"),
        (b'"path_name": "weight_0"', b'"path_name": "opaque_obj_0"', "as path_name"),
        (b"builtins.tuple", b"collections.defaultdict", r"nests its values in collections\.defaultdict"),
        (rb'"forward_arg_names": \["pixels"\]', b'"forward_arg_names": ["pixels=print(1)"]', "as forward_arg_names"),
    ],
)
def test_exported_programs_that_do_more_than_compute_are_refused(
    programs: Path, tmp_path: Path, old: bytes, new: bytes, reason: str
) -> None:
    original = (programs / "any number.pt2").read_bytes()
    assert re.search(old, original)
    hostile = _rewritten(programs / "any number.pt2", tmp_path / "hostile.pt2", _replaced(old, new))
    _refused(hostile, reason, mended_by_trust=True)


def test_exported_programs_with_pickled_code_or_libraries_are_refused(
    programs: Path, tmp_path: Path, canary: Path
) -> None:
    def with_code(name: str, content: bytes) -> bytes:
        return _zip_of_pickle(_Code(canary), 2) if "sample_inputs" in name else content

    original = programs / "any number.pt2"
    _refused(_rewritten(original, tmp_path / "code.pt2", with_code), "sample inputs", mended_by_trust=True)
    library = _rewritten(
        original, tmp_path / "library.pt2", lambda name, content: content, "data/aotinductor/model/a.so"
    )
    _refused(library, r"aotinductor/model/a\.so", mended_by_trust=True)


class _Tar(http.server.BaseHTTPRequestHandler):
    """Serves an archive whose member has the name or the link that is asked for."""

    def do_GET(self) -> None:
        kind, _, name = self.path.split("?")[0].removeprefix("/").partition("/")
        member = tarfile.TarInfo(name if kind == "member" else "link")
        member.type = tarfile.REGTYPE if kind == "member" else tarfile.SYMTYPE
        member.linkname = "" if kind == "member" else name
        self.send_response(200)
        self.end_headers()
        with tarfile.open(fileobj=self.wfile, mode="w|gz") as archive:
            archive.addfile(member, io.BytesIO())

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.mark.parametrize("kind", ["member", "link"])
def test_archives_of_a_hub_write_nothing_outside_their_directory(
    tensorflow_host: Host, tmp_path: Path, canary: Path, kind: str
) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Tar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handle = f"http://127.0.0.1:{server.server_port}/{kind}/{'../' * 20}{canary}"
    with pytest.raises(EvaluationError, match=r"invalid|Unexpected object type"):
        tensorflow_host.call("tensorflow_hub:resolve", handle=handle)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def hostile_graphs(tensorflow_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    tensorflow_host.call("tensorflow_child:save_hostile", root=str(root), canary=str(root / "canary"))
    return root


@pytest.mark.parametrize(
    ("name", "operation"),
    {
        "reads": "ReadFile",
        "writes": "WriteFile",
        "lists": "MatchingFiles",
        "python": "EagerPyFunc",
        "numpy": "PyFunc",
        "prints": "PrintV2",
        "saves": "SaveV2",
        "restores": "RestoreV2",
        "datasets": "TextLineDataset",
        "branches": "ReadFile",
        "vocabulary": "InitializeTableFromTextFileV2",
    }.items(),
)
def test_saved_models_that_reach_beyond_their_inputs_are_refused(
    hostile_graphs: Path, tensorflow_host: Host, name: str, operation: str
) -> None:
    path = hostile_graphs / name
    started = time.perf_counter()
    with pytest.raises(EvaluationError, match=operation) as caught:
        tensorflow_host.call("tasks.registration:describe_model", source="tfhub", path=str(path))
    assert time.perf_counter() - started < _SECONDS
    assert "--trust" in (caught.value.fix or "")
    with pytest.raises(EvaluationError, match=operation):
        tensorflow_host.call(
            "tensorflow_child:embed",
            record={
                "name": name,
                "source": "tfhub",
                "path": str(path),
                "fingerprint": "",
                "signature": "",
                "modality": "text",
            },
            rows_file="never read",
            batches=[],
            view=[],
        )
    assert not (hostile_graphs / "canary").exists()
    columns = tensorflow_host.call("tasks.registration:describe_model", source="tfhub", path=str(path), trusted=True)
    assert columns["modality"] == "text"
