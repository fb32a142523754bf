"""A server that speaks S3 on this machine, in this process; what is put there is in memory alone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any
from uuid import uuid4

NO_SERVER = "no S3 server here: pip install 's3fs' 'moto[server]' to run these"
# Who asks with these is served, as everybody else is: the server looks at no secret.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key-of-the-tests", "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests"}


@dataclass(frozen=True)
class Server:
    """A running server; `requests` are those that came so far, as `METHOD /path?query`."""

    url: str
    requests: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        # Nobody is asked over the network who this machine is.
        return {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def is_installed() -> bool:
    """Whether the packages are here that server and client take."""
    return all(find_spec(name) is not None for name in ("moto", "flask", "s3fs"))


@contextmanager
def run_server() -> Iterator[Server]:
    """A server without buckets on a free port of the loopback, stopped at the end."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    serve = DomainDispatcherApplication(create_backend_app)
    requests: list[str] = []

    def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        query = environ.get("QUERY_STRING")
        requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{'?' if query else ''}{query or ''}")
        return serve(environ, start_response)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, counted, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.port}", requests)
    finally:
        server.shutdown()
        thread.join()


def make_bucket() -> str:
    """A bucket of its own; the URL of a folder in it."""
    from s3fs import S3FileSystem

    name = f"bucket-{uuid4().hex}"
    S3FileSystem().mkdir(name)
    return f"s3://{name}/team"
