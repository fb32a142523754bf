"""A model hub on this machine: it answers as the Hugging Face API does, in its shapes and with its headers."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

RECORDED = Path(__file__).parent / "recorded"
TOKEN = "hf_a_token_of_somebody_with_access"


@dataclass
class Repository:
    """A model's directory at one commit, and what else the hub tells of it."""

    directory: Path
    gated: str | bool = False
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, bytes]:
        paths = sorted(path for path in self.directory.rglob("*") if path.is_file())
        return {path.relative_to(self.directory).as_posix(): path.read_bytes() for path in paths}

    @property
    def commit(self) -> str:
        if "sha" in self.told:
            return self.told["sha"]
        digest = hashlib.sha1()
        for name, content in self.files.items():
            digest.update(name.encode() + content)
        return digest.hexdigest()

    def info(self, handle: str, *, sizes: bool) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = [{"rfilename": name} for name in self.files]
        if sizes:
            for sibling, content in zip(siblings, self.files.values(), strict=True):
                sibling |= {"size": len(content), "blobId": _blob(content)}
        return {
            "_id": "621ffdc036468d709f17434d",
            "id": handle,
            "modelId": handle,
            "private": False,
            "gated": self.gated,
            "sha": self.commit,
            "library_name": "transformers",
            "siblings": siblings,
            **self.told,
        }

    def tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "oid": _blob(content), "size": len(content), "path": name}
            for name, content in self.files.items()
        ]


class Hub:
    """The repositories of a hub, its listing, and what it was asked for."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.listing: list[dict[str, Any]] = []
        self.queries: list[dict[str, list[str]]] = []
        self.requests: list[str] = []
        self.url = ""
        # A file transfer breaks off after as many bytes, once.
        self.break_off_after: int | None = None

    def add(self, handle: str, directory: Path, **told: Any) -> Repository:
        gated = told.pop("gated", False)
        self.repositories[handle] = Repository(directory, gated, told)
        return self.repositories[handle]

    def downloads(self) -> list[str]:
        """The weights that were fetched."""
        return [path for path in self.requests if path.startswith("GET") and path.endswith((".safetensors", ".bin"))]


@contextmanager
def run_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def recorded(name: str) -> Any:
    return json.loads((RECORDED / name).read_text(encoding="utf-8"))


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        self.served.requests.append(f"{self.command} {path}")
        if path == "/api/models":
            return self._list(query)
        owner, name, *rest = path.removeprefix("/api/models").strip("/").split("/")
        repository = self.served.repositories.get(f"{owner}/{name}")
        may_read = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None:
            # What it does not have and what it may not show look alike to who says no name.
            code = 404 if self.headers.get("Authorization") else 401
            return self._refuse(code, "RepoNotFound" if code == 404 else None, "Repository not found")
        if len(rest) > 1 and rest[1] not in ("main", repository.commit):
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        if path.startswith("/api/models/"):
            if rest[:1] == ["tree"]:
                return self._send_json(repository.tree())
            return self._send_json(repository.info(f"{owner}/{name}", sizes="blobs" in query))
        if repository.gated and not may_read:
            return self._refuse(403, "GatedRepo", f"Access to model {owner}/{name} is restricted")
        content = repository.files.get("/".join(rest[2:]))
        if content is None:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        self._send_file(content, repository.commit)

    def _list(self, query: Mapping[str, list[str]]) -> None:
        """Two models a page, the address of the next in the Link header."""
        self.served.queries.append(dict(query))
        start = int(query.get("cursor", ["0"])[0])
        page = self.served.listing[start : start + 2]
        headers = {}
        if start + 2 < len(self.served.listing):
            headers["Link"] = f'<{self.served.url}/api/models?cursor={start + 2}>; rel="next"'
        self._send(json.dumps(page).encode(), {"Content-Type": "application/json", **headers})

    def _send_json(self, answer: Any) -> None:
        self._send(json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send_file(self, content: bytes, commit: str) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{_blob(content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(content[start:], headers, 206 if start else 200, self.served.break_off_after)

    def _refuse(self, code: int, error: str | None, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": error} if error else {})}
        self._send(json.dumps({"error": message}).encode(), headers, code)

    def _send(
        self, content: bytes, headers: Mapping[str, str], code: int = 200, break_off_after: int | None = None
    ) -> None:
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if break_off_after is not None and len(content) > break_off_after:
            self.served.break_off_after = None
            self.wfile.write(content[:break_off_after])
            self.close_connection = True
            return
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def _blob(content: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
