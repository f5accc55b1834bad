"""What training moves: an open registry.

Everything but the new rows is frozen unless a method says otherwise (`moves_old`); then the manifest, the command and
the model card say what moved. A method lays a `RowOverlay` over the model whose trainable parameters are what is
trained, and whose `rows` are what they amount to, so that they merge into a checkpoint as any rows do.
"""

from __future__ import annotations

from contrastok.trainables.registry import TRAINABLES, Trainable, trainable

__all__ = ["TRAINABLES", "Trainable", "trainable"]

from contrastok.trainables import rows as _rows  # noqa: F401  (fills the registry)
from contrastok.trainables import shared as _shared  # noqa: F401
from contrastok.trainables import whole as _whole  # noqa: F401
