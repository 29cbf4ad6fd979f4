"""A router: a model that selects among several models."""

from rxllm.router.router import Router
from rxllm.router.strategies import Candidate

__all__ = ["Candidate", "Router"]
