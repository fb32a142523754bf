"""What tests share: a home of their own, one Prefect server for the whole run, tiny real models and datasets."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from sqlalchemy import Connection, Engine, event

from flows.registration import register_dataset, register_model
from flows.server import STACK_FILE, ensure_server, stop_server
from storage.catalog import Catalog
from storage.database import Database
from storage.settings import current_settings
from tasks.host import Host
from tests import s3 as object_store
from tests.hub import Hub, run_hub
from tests.postgres import NO_SERVER, Server, find_programs, run_server

# Nothing here needs the network, and nothing may reach for it. The models are too small to be shared between cores.
os.environ |= {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

TESTS = Path(__file__).parent
_LAST_WORDS_SECONDS = 30.0
SIDE = 16
COLOURS = {"blue": (40, 40, 220), "green": (40, 220, 40), "red": (220, 40, 40)}
WORDS = {"animals": ("cat", "dog", "bird", "fish"), "plants": ("tree", "rose", "moss", "fern")}
FILLERS = ("a", "the", "one", "small", "old", "seen", "near", "here")


_connected: set[Engine] = set()


@event.listens_for(Engine, "engine_connect")
def _remember(connection: Connection) -> None:
    _connected.add(connection.engine)


@pytest.fixture(autouse=True)
def _closed_databases() -> Iterator[None]:
    """Thousands of homes would leave so many open files behind that select(), and the prompt with it, fails."""
    yield
    while _connected:
        _connected.pop().dispose()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh home directory; no server or store of the machine's is seen."""
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "SHIFT_DATABASE_URL", "SHIFT_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHIFT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """One PostgreSQL server for the whole run, started when the first test needs it."""
    programs = find_programs()
    if programs is None:
        pytest.skip(NO_SERVER)
    with run_server(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The database of the home: once SQLite, once PostgreSQL with the newest schema and nothing in it."""
    if request.param == "sqlite":
        yield current_settings().database_url
        return
    server: Server = request.getfixturevalue("postgresql")
    with server.database() as url:
        monkeypatch.setenv("SHIFT_DATABASE_URL", url)
        yield url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[object_store.Server]:
    """One S3 server for the whole run, started when the first test needs it."""
    if not object_store.is_installed():
        pytest.skip(object_store.NO_SERVER)
    with object_store.run_server() as server:
        yield server


@pytest.fixture
def s3_url(s3_server: object_store.Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder in a bucket of its own, which the environment says how to reach."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return object_store.make_bucket()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Prefect server for the whole run, as homes have it, started when the first test needs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIFT_HOME", str(tmp_path_factory.mktemp("prefect")))
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect-client")))
        patch.setenv("PREFECT_LOGGING_LEVEL", "CRITICAL")
        settings = current_settings()
        # It is not to end when it is idle.
        (settings.home / STACK_FILE).touch()
        server, _ = ensure_server(settings)
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: server.api_url}):
        yield
        # What is still to be told would be waited for, for ever, once nobody is there.
        EventsWorker.drain_all(_LAST_WORDS_SECONDS)
        APILogWorker.drain_all(_LAST_WORDS_SECONDS)
    stop_server(settings)


@dataclass(frozen=True)
class Pool:
    """Directories of models with random weights, and files of datasets, by name."""

    models: dict[str, Path]
    datasets: dict[str, Path]


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Hugging Face models of every shape of output, and separable datasets of every reader."""
    root = tmp_path_factory.mktemp("pool")
    return Pool(_save_models(root), _save_datasets(root))


@pytest.fixture
def catalog(home: Path, pool: Pool) -> Catalog:
    """The catalog of the home, in which the whole pool is registered."""
    catalog = Catalog(Database(current_settings()))
    for name, path in pool.models.items():
        register_model(catalog, name, str(path))
    for name, path in pool.datasets.items():
        register_dataset(catalog, name, str(path))
    return catalog


def sentences(rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Sentences that name an animal or a plant, and which of them."""
    random = np.random.default_rng(seed)
    labels = [sorted(WORDS)[row % len(WORDS)] for row in range(rows)]
    texts = [
        " ".join([*random.choice(FILLERS, random.integers(0, 3)), str(random.choice(WORDS[label]))]) for label in labels
    ]
    return texts, labels


def images(rows: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Noisy (16, 16, 3) uint8 images of one colour, and its name."""
    random = np.random.default_rng(seed)
    labels = [sorted(COLOURS)[row % len(COLOURS)] for row in range(rows)]
    pixels = [np.clip(random.normal(COLOURS[label], 30, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8) for label in labels]
    return pixels, labels


def _save_datasets(root: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for split, rows, seed in (("train", 36, 1), ("test", 24, 2)):
        paths[f"colours-{split}"] = root / f"colours-{split}.npz"
        pixels, labels = images(rows, seed)
        np.savez(paths[f"colours-{split}"], images=np.stack(pixels), labels=np.array(labels))
        paths[f"photos-{split}"] = root / f"photos-{split}"
        _save_folder(paths[f"photos-{split}"], *images(rows, seed + 10))
        paths[f"nature-{split}"] = root / f"nature-{split}.csv"
        texts, topics = sentences(rows, seed)
        with paths[f"nature-{split}"].open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *zip(texts, topics, strict=True)])
    return paths


def _save_folder(root: Path, pixels: Sequence[np.ndarray], labels: Sequence[str]) -> None:
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        (root / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / label / f"{number:03}.png")


def _save_models(root: Path) -> dict[str, Path]:
    import torch
    import transformers as hf

    torch.manual_seed(0)
    tokenizer = _tokenizer()
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.2,
    }
    image: dict[str, Any] = {"num_labels": 5}
    networks = {
        # Without a trained pooler, as heads of other kinds leave it.
        "bert": hf.BertForSequenceClassification(hf.BertConfig(**text, max_position_embeddings=32)),
        "roberta": hf.RobertaForMaskedLM(hf.RobertaConfig(**text, max_position_embeddings=24)),
        "vit": hf.ViTForImageClassification(
            hf.ViTConfig(
                image_size=SIDE,
                patch_size=4,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                initializer_range=0.2,
                **image,
            )
        ),
        "resnet": hf.ResNetForImageClassification(
            hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **image)
        ),
    }
    processor = hf.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    for name, network in networks.items():
        network.save_pretrained(root / name)
        (processor if name in {"vit", "resnet"} else tokenizer).save_pretrained(root / name)
    return {name: root / name for name in networks}


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    words = [*special, *FILLERS, *(word for group in WORDS.values() for word in group)]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


@pytest.fixture(scope="session")
def tracking_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its schema and no runs: making one takes seconds, copying it none."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def tensorflow_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """TensorFlow in a process of its own, which can import tests/in_child."""
    host = Host("tensorflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIFT_HOME", str(tmp_path_factory.mktemp("tensorflow")))
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(TESTS / "in_child"), *filter(None, [os.environ.get("PYTHONPATH")])])
        )
        host.start()
    yield host
    host.stop()


@pytest.fixture(scope="session")
def saved_models(tensorflow_host: Host, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What TensorFlow's sources open by name: directories of SavedModels, as `image` and `text`, and `.keras` files."""
    root = tmp_path_factory.mktemp("saved-models")
    tensorflow_host.call("tensorflow_child:save_all", root=str(root))
    return {path.name: path for path in root.iterdir()}


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine, which the hub library takes for the one there is; nobody has a token."""
    from huggingface_hub import constants

    with run_hub() as hub:
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache-of-the-library"))
        yield hub
