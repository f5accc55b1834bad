"""Is all well with model, tokenizer, terms and text, before an hour is spent?

A check is a function in one of the modules below that looks at a `Case` and yields `Finding`s. They run in the order
in which they are imported here.
"""

from __future__ import annotations

from contrastok.doctor import model, terms, texts, tokenizer, evidence, lengths, place, cost  # isort: skip

__all__ = ["cost", "evidence", "lengths", "model", "place", "terms", "texts", "tokenizer"]
