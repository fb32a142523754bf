"""Rankers: estimators that score a model's features, array in, number out. Light to import."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from storage.errors import BindingError
from tasks.rankers.specs import RANKERS, bind_arguments, find_ranker

if TYPE_CHECKING:
    from tasks.rankers.base import Ranker


def get_ranker(name: str, **arguments: Any) -> Ranker:
    """The ranker called `name`, in any spelling, ready to `score`: `get_ranker("Cosine NN", k=5)`.

    Raises BindingError for an unknown name or argument, for what scores no features, as FineTune, and for a
    plug-in that cannot be imported.
    """
    spec = find_ranker(name)
    if spec.implementation is None:
        raise BindingError(
            f"{spec.label} scores no features",
            subject=name,
            allowed=[each.label for each in RANKERS.values() if each.implementation],
            fix=f"ask for it in a query: SELECT … ORDER BY {spec.label} … TRAINED ON … TESTED ON …",
        )
    bound = bind_arguments(spec, (), arguments)
    own = {a.name: bound[a.name] for a in spec.arguments if a.name in bound and not a.chooses_features}
    module, _, implementation = spec.implementation.partition(":")
    try:
        ranker: Ranker = getattr(import_module(module), implementation)(**own)
    except (ImportError, AttributeError, TypeError) as error:
        raise BindingError(
            f"the implementation {spec.implementation} of {spec.label} cannot be used: {error}",
            subject=name,
            fix="update or uninstall the package that brings it",
        ) from error
    return ranker
