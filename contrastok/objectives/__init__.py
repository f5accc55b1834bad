"""What training minimises: an open registry of objectives.

To add one, write a subclass of `Loss` in a module of this package, decorate it with `@objective("name", source="...")`,
and import the module below. What of a batch it needs beyond pairs it says in the decorator.
"""

from __future__ import annotations

from contrastok.objectives.registry import OBJECTIVES, Loss, Objective, objective

__all__ = ["OBJECTIVES", "Loss", "Objective", "objective"]

from contrastok.objectives import causal_lm as _causal_lm  # noqa: F401  (fills the registry)
from contrastok.objectives import contrast as _contrast  # noqa: F401
from contrastok.objectives import distill as _distill  # noqa: F401
from contrastok.objectives import grounding as _grounding  # noqa: F401
from contrastok.objectives import mlm as _mlm  # noqa: F401
from contrastok.objectives import one_token as _one_token  # noqa: F401
from contrastok.objectives import prefix_lm as _prefix_lm  # noqa: F401
from contrastok.objectives import simcse as _simcse  # noqa: F401
