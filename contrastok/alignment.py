"""Which tokens of two tokenisations of a text say the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def align(
    text: str, extended: PreTrainedTokenizerFast, base: PreTrainedTokenizerFast, max_length: int
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """The original ids of a text, and which of its tokens end where a token with new ids ends.

    Args:
        text: one text.
        extended: the tokenizer with the new tokens.
        base: the tokenizer before extension.
        max_length: tokens beyond it are cut off.

    Returns:
        ids of `base`, special tokens included, and pairs (place in the extended ids, place in these).
    """
    wanted = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "verbose": False}
    new, old = (found(text, truncation=True, max_length=max_length, **wanted) for found in (extended, base))
    ends = [_ends(found["offset_mapping"], found["special_tokens_mask"]) for found in (new, old)]
    frames = [[i for i, special in enumerate(found["special_tokens_mask"]) if special] for found in (new, old)]
    pairs = [(at, ends[1][end]) for end, at in ends[0].items() if end in ends[1]]
    if len(frames[0]) == len(frames[1]):
        pairs += zip(*frames, strict=True)
    return tuple(old["input_ids"]), tuple(sorted(pairs))


def _ends(spans: Sequence[tuple[int, int]], special: Sequence[int]) -> dict[int, int]:
    """The last token that ends at each character; of the bytes of one character only the last says all of it."""
    return {end: at for at, ((start, end), framed) in enumerate(zip(spans, special, strict=True)) if not framed}
