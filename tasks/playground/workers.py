"""Makes pieces of the playground in child processes, two at a time and one thread each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import asdict
from multiprocessing.connection import wait
from pathlib import Path

from storage.errors import ShiftError
from tasks.playground.sizes import ModelSpec, Spec

WORKERS = 2
STDERR_TAIL = 2000
# One thread, no GPU and a fixed hash seed make results repeatable; the rest keeps libraries quiet and offline.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


def make_pieces(specs: Iterable[Spec], directory: Path, seed: int) -> Generator[tuple[Spec, float | None], None, None]:
    """Make each piece, in order, in `directory / spec.name`; yield it, complete, with its upstream accuracy.

    Raises ShiftError with the end of the worker's standard error when a piece cannot be made.
    """
    waiting = deque(specs)
    idle: list[_Worker] = []
    busy: list[_Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < WORKERS:
                spec = waiting.popleft()
                worker = idle.pop() if idle and not _needs_own_process(spec) else _Worker()
                busy.append(worker)
                worker.start(spec, directory / spec.name, seed)
            ready = wait([worker.answers.fileno() for worker in busy])
            for worker in [worker for worker in busy if worker.answers.fileno() in ready]:
                accuracy = worker.finish()
                busy.remove(worker)
                if _needs_own_process(worker.spec):
                    worker.kill()
                else:
                    idle.append(worker)
                yield worker.spec, accuracy
    finally:
        for worker in (*idle, *busy):
            worker.kill()


def _needs_own_process(spec: Spec) -> bool:
    """TensorFlow and torch fight over threads; one process a model also makes its files repeatable."""
    return isinstance(spec, ModelSpec) and spec.source == "tfhub"


class _Worker:
    """One child process and the piece it is making."""

    spec: Spec

    def __init__(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tasks.playground.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=Path(__file__).parents[2],
            env={**os.environ, **ENVIRONMENT},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self.answers = self._process.stdin, self._process.stdout

    def start(self, spec: Spec, directory: Path, seed: int) -> None:
        self.spec = spec
        directory.mkdir()
        request = {
            "kind": "model" if isinstance(spec, ModelSpec) else "target",
            "spec": asdict(spec),
            "directory": str(directory),
            "seed": seed,
        }
        self._requests.write(json.dumps(request).encode() + b"\n")
        self._requests.flush()

    def finish(self) -> float | None:
        answer = self.answers.readline()
        if not answer:
            self._process.wait()
            self._stderr.seek(0)
            tail = self._stderr.read().decode(errors="replace")[-STDERR_TAIL:]
            raise ShiftError(
                f'the playground\'s "{self.spec.name}" could not be made '
                f"(exit status {self._process.returncode}):\n{tail.strip()}",
                subject=self.spec.name,
                fix="mend what the last line names, then run the same command again: finished pieces are kept",
            )
        accuracy: float | None = json.loads(answer)["upstream_accuracy"]
        return accuracy

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self.answers.close()
        self._stderr.close()
