"""Deployments are tested on the same flows as those."""

from tests.flows.conftest import here, server

__all__ = ["here", "server"]
