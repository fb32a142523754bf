"""What the tests of tasks.host have a host call; not a test itself."""

from __future__ import annotations

import os
import sys

from storage.errors import EvaluationError, StoreError


def echo(**arguments: object) -> dict[str, object]:
    return arguments


def noisy(text: str) -> str:
    print("printed")
    sys.stdout.flush()
    os.write(1, b"written to the descriptor\n")
    os.system("echo said by a child")
    return text


def end(status: int) -> None:
    os._exit(status)


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


def refuse(transient: bool) -> None:
    raise EvaluationError("the weights are truncated", transient=transient, fix="download them again")


def miss() -> None:
    raise StoreError("features are missing", fix="ask again")


def stumble() -> None:
    raise KeyError("unforeseen")
