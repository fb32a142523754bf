"""Deployments are tested on the same server and pool as flows."""

from tests.flows.conftest import here, server

__all__ = ["here", "server"]
