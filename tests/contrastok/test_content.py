from __future__ import annotations

import pytest

from contrastok.content import content_ids


@pytest.mark.parametrize("text", ["The cheese, with salt and oil!", "cheese salt oil", "of the cheese (salt); the oil"])
def test_content_words_only(any_tokenizer: object, text: str) -> None:
    [ids], [plain] = content_ids(any_tokenizer, [text]), content_ids(any_tokenizer, ["cheese salt oil"])  # type: ignore[arg-type]
    decoded = any_tokenizer.decode(ids).replace(" ", "").replace("▁", "")  # type: ignore[attr-defined]
    assert decoded == "cheesesaltoil" and plain


def test_nothing_is_left_of_function_words(any_tokenizer: object) -> None:
    assert content_ids(any_tokenizer, ["of the, and to ...", ""]) == [[], []]  # type: ignore[arg-type]
    assert content_ids(any_tokenizer, []) == []  # type: ignore[arg-type]
