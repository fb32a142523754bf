"""Child processes that host a framework: torch, tensorflow, MLflow.

Each is started when first needed, lives as long as this process, and is started anew after a crash. So a
framework is imported while this process goes on, a model that brings its process down sinks only its own
evaluation, and torch and TensorFlow never fight over threads and memory. A call names a function and JSON
arguments; arrays do not travel, the stores hold them.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from storage.errors import EvaluationError, ShiftError, StoreError
from storage.settings import current_settings
from storage.uncollected import kept_for_good

# What a host imports at once, before its first call.
_PRELOAD = {
    "torch": (
        "torch",
        "transformers.modeling_utils",
        "transformers.models.auto.image_processing_auto",
        "transformers.models.auto.modeling_auto",
        "tasks.embedding",
    ),
    "tensorflow": ("tensorflow_hub",),
    "tracking": ("mlflow.store.tracking.sqlalchemy_store", "storage.tracking"),
}

# What a host says first.
_READY = b"ready\n"

# No library reports home, TensorFlow says errors only, and an MLflow out of reach is soon given up.
_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_USE_LEGACY_KERAS": "1",
}

# How soon a host ends after the process it works for has died.
_PARENT_SECONDS = 1.0

# The record is written beside the work, never in its way.
_NICENESS = {"tracking": 10}


class Host:
    """One child process, named after its framework: "torch", or "torch-2" for another of the kind.

    Calls from several threads are served one at a time.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        # The modules that were called in it so far.
        self.called: set[str] = set()
        self._owner = os.getpid()

    @property
    def _log(self) -> Path:
        return current_settings().home / "logs" / f"{self.name}.log"

    def start(self) -> None:
        """Start the process unless it runs; its imports go on in the background."""
        if self.is_running():
            return
        self._is_ready = False
        self.called.clear()
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            opened = self._log.open("ab")
        except OSError as error:
            raise StoreError(
                f"{self._log} cannot be written: {error.strerror or error}",
                subject=str(self._log),
                fix="make SHIFT_HOME a directory that can be written, and see that its disk is not full",
            ) from error
        with opened as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tasks.host", self.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **_ENVIRONMENT},
            )

    def call(self, function: str, **arguments: Any) -> Any:
        """Run `module:function` there and return its JSON result.

        A ShiftError raised there is raised here; a lost process is a transient EvaluationError.
        """
        with self._lock:
            self.start()
            process = self._process
            assert process is not None
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                if not self._is_ready:
                    self._is_ready = process.stdout.readline() == _READY
                process.stdin.write(json.dumps({"function": function, "arguments": arguments}).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except (BrokenPipeError, ValueError):
                line = b""
            if not line:
                raise self._lost(process)
        self.called.add(function.partition(":")[0])
        reply = json.loads(line)
        if "error" in reply:
            raise _revive(reply["error"])
        return reply["result"]

    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """Whether the process has its imports behind it; never waits for that."""
        if self._is_ready or not self._lock.acquire(blocking=False):
            return self._is_ready
        try:
            process = self._process
            if process is None or process.stdout is None:
                return False
            if not self._is_ready and select.select([process.stdout], [], [], 0)[0]:
                self._is_ready = process.stdout.readline() == _READY
            return self._is_ready
        finally:
            self._lock.release()

    def stop(self) -> None:
        """End the process; the next call starts another."""
        process, self._process = self._process, None
        if process is not None and os.getpid() == self._owner:
            process.kill()
            process.wait()

    def _lost(self, process: subprocess.Popen[bytes]) -> EvaluationError:
        process.kill()
        status = process.wait()
        self._process = None
        cause = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        hint = " (out of memory is the usual cause)" if status == -signal.SIGKILL else ""
        return EvaluationError(
            f"the {self.name} process {cause}{hint}",
            transient=True,
            fix=f"its last words are in {self._log}; ask again to retry",
        )


_hosts: dict[str, Host] = {}
_hosts_lock = threading.Lock()
# A forked process starts hosts of its own: two must not talk through one pipe.
os.register_at_fork(after_in_child=_hosts.clear)


def host(name: str) -> Host:
    """This process's host of that name."""
    with _hosts_lock:
        if name not in _hosts:
            if not _hosts:
                atexit.register(stop_hosts)
            _hosts[name] = Host(name)
        return _hosts[name]


def stop_hosts() -> None:
    """End every host, in the middle of whatever it does."""
    with _hosts_lock:
        for running in _hosts.values():
            running.stop()
        _hosts.clear()


def _revive(error: dict[str, Any]) -> ShiftError:
    return EvaluationError(error["message"], transient=error["transient"], fix=error["fix"])


def _describe(error: BaseException) -> dict[str, Any]:
    if isinstance(error, ShiftError):
        transient = getattr(error, "transient", True)
        return {"message": error.message, "transient": transient, "fix": error.fix}
    # Anything unforeseen may be the environment's fault rather than the model's, so it is worth another try.
    return {"message": f"{type(error).__name__}: {error}", "transient": True, "fix": None}


def _end_with(parent: int) -> None:
    """End this process soon after its parent, also in the middle of a call: nobody waits for its result any more."""
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os._exit(1)


def _serve(name: str, replies: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    framework = name.split("-")[0]
    os.nice(_NICENESS.get(framework, 0))
    with kept_for_good():
        for module in _PRELOAD.get(framework, ()):
            import_module(module)
    replies.write(_READY)
    replies.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        module, _, attribute = request["function"].partition(":")
        try:
            function: Callable[..., Any] = getattr(import_module(module), attribute)
            reply = {"result": function(**request["arguments"])}
        except Exception as error:
            traceback.print_exc()
            reply = {"error": _describe(error)}
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    # Libraries print to standard output; replies go out on a descriptor of their own.
    with os.fdopen(os.dup(1), "wb") as private:
        os.dup2(2, 1)
        _serve(sys.argv[1], private)
