"""A child process that makes one piece of the playground after another.

Standard input holds one JSON object a line: `kind` (model or target), `spec`, `directory` (empty, to be
filled) and `seed`. Standard output answers each with one line, `{"upstream_accuracy": number or null}`.
The process ends when its standard input does, in the middle of its work too, and so with its parent.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path

from tasks.playground import targets
from tasks.playground.sizes import ModelSpec, TargetSpec


def main() -> None:
    """Answer until standard input ends. A failing piece ends the process, traceback on standard error."""
    # Libraries print to standard output as they like; only answers may reach the parent.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    while True:
        request = json.loads(requests.get())
        directory, seed = Path(request["directory"]), request["seed"]
        accuracy = None
        if request["kind"] == "target":
            targets.write(TargetSpec(**request["spec"]), directory, seed)
        else:
            accuracy = _train(ModelSpec(**request["spec"]), directory, seed)
        print(json.dumps({"upstream_accuracy": accuracy}), file=answers, flush=True)


def _read_requests(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def _train(spec: ModelSpec, directory: Path, seed: int) -> float | None:
    if spec.source == "tfhub":
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        from tasks.playground import tensorflow_models

        return tensorflow_models.train(spec, directory, seed)
    import torch

    torch.set_num_threads(1)
    from tasks.playground import huggingface

    return huggingface.train(spec, directory, seed)


if __name__ == "__main__":
    main()
