"""A property that is made once, also when it cannot be made."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar

from contrastok.errors import ContrastokError

T = TypeVar("T")


class once(cached_property[T]):
    """As `functools.cached_property`; a ContrastokError is kept, too, and raised again without another try.

    Several checks ask for the same thing, and finding out that a dataset cannot be reached takes a minute.
    """

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        """The value; on the class the property itself."""
        failed = {} if instance is None else instance.__dict__.setdefault("_failed", {})
        if self.attrname in failed:
            raise failed[self.attrname]
        try:
            return super().__get__(instance, owner)
        except ContrastokError as error:
            failed[self.attrname] = error
            raise
