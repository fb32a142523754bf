"""Fine-tuning at speed: rows a second of ours against a bare torch training loop of the same model, batch and rows.

    python benchmarks/finetuning.py [--json] [--rows N] [--pairs N] [--images] [DIRECTORY]

The text model has the size of MiniLM (6 layers, 384 wide), with `--images` there is one of ViT-S too; weights are
random, which are as fast as any. The bare loop is given what costs nothing to know: its batches are made beforehand,
and lie on the device. Epochs of both take turns, so that whatever else the machine does slows both; the median of the
ratios counts. Both run on the best device there is, in bfloat16 where that is a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figures

BATCH_ROWS = 32
WORDS = 40
VOCABULARY = 30_522
SIDE = 224
KINDS = ("text", "image")
LIMITS = {f"{kind}: bare loop's throughput / ours": 1 / 0.9 for kind in KINDS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--rows", type=int, default=256, help="training rows of an epoch")
    parser.add_argument("--pairs", type=int, default=5, help="epochs of each that are compared")
    parser.add_argument("--images", action="store_true", help="measure a model of the size of ViT-S too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = (options.directory or Path(temporary)).absolute()
        os.environ["SHIFT_HOME"] = str(directory / "home")
        figures = Figures(LIMITS)
        for kind in KINDS[: 1 + options.images]:
            save = save_text_model if kind == "text" else save_image_model
            if not (directory / kind).exists():
                save(directory / kind)
            measure(figures, kind, directory / kind, options.rows, options.pairs)
        if options.json:
            print(json.dumps(figures.to_json()))
        else:
            figures.show()


def save_text_model(path: Path) -> None:
    """A BERT of the size of MiniLM whose words are numbers."""
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers

    config = hf.BertConfig(
        vocab_size=VOCABULARY, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    hf.BertForSequenceClassification(config).save_pretrained(path)
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *map(str, range(VOCABULARY - 2))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(path)


def save_image_model(path: Path) -> None:
    """A ViT of the size of ViT-S."""
    import transformers as hf

    config = hf.ViTConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536)
    hf.ViTForImageClassification(config).save_pretrained(path)
    hf.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(path)


def make_rows(kind: str, rows: int) -> Any:
    """Rows of two classes, to be fitted and validated on."""
    from tasks.finetuning.examples import Examples, Goal, TrainingRows

    random = np.random.default_rng(0)
    labels = np.arange(rows) % 2
    made: list[Any]
    if kind == "text":
        made = [" ".join(map(str, random.integers(0, VOCABULARY - 2, WORDS))) for _ in range(rows)]
    else:
        made = list(random.integers(0, 256, (rows, SIDE, SIDE, 3), dtype=np.uint8))
    few = Examples(made[:BATCH_ROWS], labels[:BATCH_ROWS])
    return TrainingRows(Goal("classification", ("a", "b")), Examples(made, labels), few)


def measure(figures: Figures, kind: str, path: Path, rows: int, pairs: int) -> None:
    """Epochs of ours and of the bare loop in turns."""
    from flows.registration import register_model
    from storage.catalog import Catalog
    from storage.database import Database
    from storage.settings import current_settings
    from tasks.finetuning.huggingface import open_training
    from tasks.finetuning.measuring import measure_for

    model = register_model(Catalog(Database(current_settings())), kind, str(path))
    training_rows = make_rows(kind, rows)
    params = {"epochs": pairs + 1, "lr": 1e-4, "batch_size": BATCH_ROWS, "seed": 0, "mode": "full", "warmup": 0.0}
    training = open_training(model, training_rows, measure_for(training_rows.goal, None), params)
    bare = bare_loop(kind, path, training_rows.fit)
    ratios, speeds = [], []
    for epoch in range(pairs + 1):
        ours = rows / timed(lambda epoch=epoch: training.train(epoch))
        theirs = rows / timed(bare)
        # The first of each warms up.
        if epoch:
            ratios.append(theirs / ours)
            speeds.append(ours)
    figures.add(f"{kind}: rows a second, ours", float(np.median(speeds)), "")
    told = f"of {pairs} pairs: {', '.join(f'{ratio:.2f}' for ratio in sorted(ratios))}"
    figures.add(f"{kind}: bare loop's throughput / ours", float(np.median(ratios)), "", told)


def bare_loop(kind: str, path: Path, examples: Any) -> Callable[[], None]:
    """One epoch of the plainest loop there is, over batches made beforehand."""
    import torch
    import transformers as hf

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    labels = torch.from_numpy(examples.labels).to(device)
    if kind == "text":
        network = hf.AutoModelForSequenceClassification.from_pretrained(path)
        inputs = dict(hf.AutoTokenizer.from_pretrained(path)(examples.rows, return_tensors="pt", padding=True))
    else:
        network = hf.AutoModelForImageClassification.from_pretrained(path)
        processor = hf.AutoImageProcessor.from_pretrained(path, backend="pil")
        inputs = dict(processor(examples.rows, return_tensors="pt"))
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def epoch() -> None:
        for start in range(0, len(labels), BATCH_ROWS):
            batch = {name: tensor[start : start + BATCH_ROWS] for name, tensor in inputs.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = network(**batch, labels=labels[start : start + BATCH_ROWS]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return epoch


def timed(epoch: Callable[[], object]) -> float:
    """The seconds it takes until the device is done."""
    import torch

    started = time.perf_counter()
    epoch()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
