"""The content words of a text: what is left of a definition without the words that only give it its form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORD = re.compile(r"\w+")
FORM_WORDS = """
    a an the this that these those such some any each every all both either neither no not another other others same
    i me my we us our you your he him his she her it its they them their who whom whose which what where when why how
    of in on at by for with without from to into onto upon over under above below between among through during before
    after about against within along across around off out up down near since until toward towards via per as than
    and or but nor so yet if because while whether though although unless
    is are was were be been being am has have had having do does did done doing can could may might must shall should
    will would there here then also only just too very more most much many less least often usually sometimes etc
"""
FUNCTION_WORDS = frozenset(FORM_WORDS.split())
"""English words that give a sentence its form and say nothing of what a definition is about."""


def content_ids(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text that belong to its content words: no function words, no punctuation, nothing unknown."""
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    found = []
    for text, ids, spans in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        content = np.zeros(len(text), dtype=bool)
        for word in WORD.finditer(text):
            content[word.start() : word.end()] = word.group().casefold() not in FUNCTION_WORDS
        kept = [i for i, (start, end) in zip(ids, spans, strict=True) if content[start:end].any()]
        found.append([i for i in kept if i != tokenizer.unk_token_id])
    return found
