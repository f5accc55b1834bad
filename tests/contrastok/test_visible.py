from __future__ import annotations

import pytest

from contrastok.visible import NAME, short, visible


@pytest.mark.parametrize("control", ["\u061c", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069"])
def test_controls_of_direction_are_written_out(control: str) -> None:
    assert visible(f"a{control}b") == f"a\\u{ord(control):04x}b" and visible("a\u200cb שלום") == "a\u200cb שלום"


def test_long_names_end_in_an_ellipsis() -> None:
    assert short("x" * NAME) == "x" * NAME and short("x" * (NAME + 1)) == "x" * (NAME - 1) + "…"
    assert short("ab cdef", 4) == "ab…"
