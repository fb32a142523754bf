"""Embedding at speed: against a bare loop of forward passes, and against another ranker of language models.

    python benchmarks/embed.py [--json] [--peer] [--texts N] [DIRECTORY]

Models have the size of MiniLM (6 layers, 384 wide), of ViT-S and of ViT-B, with random weights, which are as fast as
any. Texts are the sentences of docstrings as they come, of a few words to hundreds. The bare loops are given what
costs nothing to know: text comes tokenised, and sorted by length. The share of raw throughput is against forward passes
of one full batch, repeated, on the best device there is, in bfloat16 where that is a GPU. `--peer` installs
transformer-ranker beside DIRECTORY and ranks the same models on the same texts with it, by its own settings.
"""

from __future__ import annotations

import argparse
import ast
import csv
import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figures

from storage.catalog import DatasetRecord
from tasks.readers import open_reader

PACKAGES = ("sklearn", "torch", "tensorflow", "transformers", "pandas", "scipy", "sqlalchemy", "numpy", "keras", "PIL")
MODELS = 8
PAIRS = 3
IMAGES = 200
# Forward passes of one full batch, for the raw throughput of a device.
RAW_ROWS = {"cpu": {"text": 64, "image": 16}, "cuda": {"text": 2048, "image": 256}}
RAW_PASSES = 5
IMAGE_SIDE = 256
FILES_PER_PACKAGE = 300
VOCABULARY = 20_000
LONGEST = 512
TOKENS_PER_BATCH = 2048
IMAGES_PER_BATCH = 16
PEER = ("transformer-ranker", "torchmetrics", "sentencepiece", "lightning-utilities")
LIMITS = {
    "text: bare loop's throughput / ours": 1 / 0.9,
    "images: bare loop's throughput / ours": 1 / 0.9,
    "memory beyond the model": 1.5,
    "ours / transformer-ranker, cold": 1 / 4,
    "ours / transformer-ranker, asked again": 1 / 100,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--peer", action="store_true", help="compare with transformer-ranker")
    parser.add_argument("--texts", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = (options.directory or Path(temporary)).absolute()
        directory.mkdir(parents=True, exist_ok=True)
        os.environ["SHIFT_HOME"] = str(directory / "home")
        # What an earlier run measured here would be reused.
        shutil.rmtree(directory / "home", ignore_errors=True)
        figures = Figures(LIMITS)
        make_pool(directory, options.texts)
        measure_throughput(figures, directory)
        measure_share(figures)
        if options.peer:
            measure_peer(figures, directory)
        if options.json:
            print(json.dumps(figures.to_json()))
        else:
            figures.show()


def make_pool(directory: Path, texts: int) -> None:
    """Models, texts and images in the directory, registered in its home; what is there is kept."""
    import transformers as hf
    from PIL import Image

    from flows.registration import register_dataset, register_model
    from storage.catalog import Catalog
    from storage.database import Database
    from storage.settings import current_settings

    catalog = Catalog(Database(current_settings()))
    random = np.random.default_rng(0)
    packages = {package: docstring_sentences(package) for package in PACKAGES}
    with (directory / "texts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for number in range(texts):
            package = PACKAGES[number % len(PACKAGES)]
            writer.writerow((random.choice(packages[package]), package))
    register_dataset(catalog, "texts", str(directory / "texts.csv"))
    photos = directory / "photos"
    if not photos.exists():
        for number in range(IMAGES):
            folder = photos / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            coarse = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((IMAGE_SIDE, IMAGE_SIDE)).save(folder / f"{number}.jpg")
    register_dataset(catalog, "photos", str(photos))
    tokenizer = None
    for number in range(MODELS):
        path = directory / f"minilm-{number}"
        if not path.exists():
            tokenizer = tokenizer or _tokenizer([line for package in PACKAGES for line in packages[package]])
            hf.set_seed(number)
            config = hf.BertConfig(
                vocab_size=30_522,
                hidden_size=384,
                num_hidden_layers=6,
                num_attention_heads=12,
                intermediate_size=1536,
                max_position_embeddings=512,
            )
            hf.BertModel(config).save_pretrained(path)
            tokenizer.save_pretrained(path)
        register_model(catalog, path.name, str(path))
    small = [(f"vit-small-{number}", 384, 6) for number in range(PAIRS)]
    for seed, (name, width, heads) in enumerate([*small, ("vit-base", 768, 12)]):
        path = directory / name
        if not path.exists():
            hf.set_seed(seed)
            config = hf.ViTConfig(hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width)
            hf.ViTModel(config).save_pretrained(path)
            hf.ViTImageProcessorPil(size={"height": 224, "width": 224}).save_pretrained(path)
        register_model(catalog, name, str(path))


def docstring_sentences(package: str) -> list[str]:
    """The sentences of the docstrings of an importable package's first files, each once, of whatever length."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    sentences: dict[str, None] = {}
    for file in sorted(Path(spec.origin).parent.rglob("*.py"))[:FILES_PER_PACKAGE]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for sentence in re.split(r"(?<=[.!?])\s+", ast.get_docstring(node) or ""):
                    sentences[" ".join(sentence.split())] = None
    sentences.pop("", None)
    return list(sentences)


def _tokenizer(lines: list[str]) -> Any:
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(lines, vocab_size=VOCABULARY, show_progress=False)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer, model_max_length=LONGEST)


def measure_throughput(figures: Figures, directory: Path) -> None:
    """Our embedding, whole from the files into the store, beside the bare loop, in pairs; each after a warm-up."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    for kind, model, dataset, loop in (
        ("text", "minilm", "texts", _bare_text(directory)),
        ("images", "vit-small", "photos", _bare_images(directory)),
    ):
        next(loop)
        pairs = []
        for name in [f"{model}-{number}" for number in range(PAIRS)]:
            ours = _timed(lambda name=name, dataset=dataset: _embed(name, dataset))
            pairs.append((next(loop), ours))
        bare, ours = sorted(pairs, key=lambda pair: pair[1] / pair[0])[len(pairs) // 2]
        detail = ", ".join(f"{mine:.2f} s against {theirs:.2f} s" for theirs, mine in pairs)
        figures.add(f"{kind}: bare loop's throughput / ours", ours / bare, "x", detail)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures.add("memory beyond the model", held - _bytes_of(directory / "vit-small-0") / 2**30, "GiB")


def measure_share(figures: Figures) -> None:
    """Tokens, or images, embedded in a second, whole from the files into the store, over those of a full batch."""
    import torch

    from storage.catalog import Catalog
    from storage.database import Database
    from storage.settings import current_settings
    from tasks.sources import source_named
    from tasks.sources.huggingface import best_device

    catalog = Catalog(Database(current_settings()))
    device = best_device()
    for kind, name, dataset in (("text", "minilm-7", "texts"), ("image", "vit-base", "photos")):
        model: Any = source_named("huggingface").open(catalog.model(name))
        items = [item for row in model.prepare(_rows(catalog.dataset(dataset))) for item in _sequences(row)]
        batch = sorted(items, key=_length)[len(items) // 2 :][: RAW_ROWS[device.type][kind]]
        with torch.inference_mode():
            inputs = model._inputs(batch)

            def passes(model: Any = model, inputs: dict[str, Any] = inputs) -> None:
                for _ in range(RAW_PASSES):
                    outputs = model._network(**inputs).last_hidden_state
                # Waits for a device that computes on its own.
                outputs[0, 0, 0].item()

            passes()
            raw = RAW_PASSES * sum(map(_length, batch)) / _timed(passes)
        model.close()
        ours = sum(map(_length, items)) / _timed(lambda name=name, dataset=dataset: _embed(name, dataset))
        unit = "tokens" if kind == "text" else "images"
        figures.add(
            f"{kind}: share of raw throughput", ours / raw, "x", f"{ours:.0f} of {raw:.0f} {unit}/s on {device}"
        )


def _rows(dataset: DatasetRecord) -> list[Any]:
    chunks = open_reader(dataset.type, dataset.path, dataset.reader_options).chunks()
    return [row for chunk in chunks for row in chunk.rows]


def _sequences(row: Any) -> Sequence[Any]:
    return getattr(row, "sequences", [row])


def _length(item: Any) -> int:
    return len(item.ids) if hasattr(item, "ids") else 1


def _embed(model: str, dataset: str) -> None:
    from storage.catalog import Catalog
    from storage.database import Database
    from storage.settings import current_settings
    from tasks.embedding import embed_dataset

    catalog = Catalog(Database(current_settings()))
    rows = catalog.dataset(dataset)
    fingerprint = f"{catalog.model(model).fingerprint}"
    embed_dataset(model, fingerprint, dataset, rows.fingerprint, [(0, rows.num_rows)])


def _bare_text(directory: Path) -> Iterator[float]:
    """Seconds of forward passes over texts, tokenised and sorted before; one measurement each time it is asked."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory / "minilm-0")
    network = AutoModel.from_pretrained(directory / "minilm-0").eval()
    with (directory / "texts.csv").open(newline="") as opened:
        texts = [row["text"] for row in csv.DictReader(opened)]
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True)["input_ids"]]
    order = np.argsort([-length for length in lengths], kind="stable")
    batches = []
    start = 0
    while start < len(order):
        size = max(1, TOKENS_PER_BATCH // lengths[order[start]])
        chosen = [texts[index] for index in order[start : start + size]]
        batches.append(tokenizer(chosen, return_tensors="pt", padding=True, truncation=True))
        start += size

    def run() -> None:
        with torch.inference_mode():
            for batch in batches:
                hidden = network(**batch).last_hidden_state
                mask = batch["attention_mask"].unsqueeze(-1)
                _ = ((hidden * mask).sum(1) / mask.sum(1)).numpy()

    while True:
        yield _timed(run)


def _bare_images(directory: Path) -> Iterator[float]:
    """Seconds of preparing and of forward passes over images; opening the files is not counted."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(directory / "vit-small-0", backend="pil")
    network = AutoModel.from_pretrained(directory / "vit-small-0").eval()
    images = [Image.open(path).convert("RGB") for path in sorted((directory / "photos").rglob("*.jpg"))]

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, len(images), IMAGES_PER_BATCH):
                inputs = processor(images=images[start : start + IMAGES_PER_BATCH], return_tensors="pt")
                _ = network(**inputs).last_hidden_state[:, 0].numpy()

    while True:
        yield _timed(run)


def measure_peer(figures: Figures, directory: Path) -> None:
    """Whole processes: ours and transformer-ranker's, on the same models and texts."""
    place = directory / "peer"
    if not place.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place), *PEER]
        subprocess.run(command, check=True)
    file = directory / "texts.csv"
    script = (
        "from datasets import Dataset; from transformer_ranker import TransformerRanker\n"
        f"data = Dataset.from_csv({str(file)!r}).class_encode_column('label')\n"
        "ranker = TransformerRanker(data, text_column='text', label_column='label')\n"
        f"ranker.run({[str(directory / f'minilm-{number}') for number in range(MODELS)]!r}, batch_size=64)"
    )
    query = "SELECT name FROM text_models ORDER BY HScore(layer='mean') TRAINED ON texts"
    home = directory / "fresh-home"
    shutil.rmtree(home, ignore_errors=True)
    environment = {**os.environ, "SHIFT_HOME": str(home)}
    shiftql = Path(sys.executable).with_name("shiftql")

    def run(*command: str, **more: str) -> None:
        subprocess.run(command, check=True, env={**environment, **more}, stdout=subprocess.DEVNULL)

    for number in range(MODELS):
        run(str(shiftql), "models", "add", f"minilm-{number}", str(directory / f"minilm-{number}"))
    run(str(shiftql), "datasets", "add", "texts", str(file))
    theirs = _timed(lambda: run(sys.executable, "-c", script, PYTHONPATH=str(place), HF_HUB_OFFLINE="1"))
    ours = _timed(lambda: run(str(shiftql), "-c", query))
    again = _timed(lambda: run(str(shiftql), "-c", query))
    figures.add("ours / transformer-ranker, cold", ours / theirs, "x", f"{ours:.1f} s against {theirs:.1f} s")
    figures.add("ours / transformer-ranker, asked again", again / theirs, "x", f"{again:.2f} s")


def _bytes_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
