from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastok import auxiliary as module
from contrastok.auxiliary import Auxiliary, auxiliary
from contrastok.bank import FrozenEncoder
from contrastok.candidates import candidates
from contrastok.errors import InputError
from contrastok.initializers import InitContext, InitOptions
from tests.conftest import FAMILIES

TEXTS = ["zorblaxin, the cheese", "quib vexalotl", "zorblaxins"]


@pytest.fixture(params=FAMILIES)
def context(request: pytest.FixtureRequest, init_context_of: Callable[..., InitContext]) -> InitContext:
    return init_context_of(request.param)


def with_file(context: InitContext, folder: Path, entries: dict[str, list[float]]) -> InitContext:
    file = folder / "vectors.txt"
    file.write_text("".join(f"{word} {' '.join(map(str, values))}\n" for word, values in entries.items()))
    return replace(context, options=InitOptions(vectors=file))


def words_of(context: InitContext, found: Auxiliary) -> dict[str, list[float]]:
    names = dict(zip(*(lambda c: (c.ids, c.words))(candidates(context.tokenizer)), strict=True))  # type: ignore[arg-type]
    return {names[int(i)]: row for i, row in zip(found.anchors, found.known.tolist(), strict=True)}


def test_a_file_gives_vectors_to_whole_words_and_terms(context: InitContext, tmp_path: Path) -> None:
    entries = {
        "the": [1.0, 0.0], "cheese": [0.0, 1.0], "nowhere-known": [9.0, 9.0], "zorblaxin": [0.5, 0.5],
        "quib_vexalotl": [0.0, 2.0], "cheese,": [7.0, 7.0], "</s>": [8.0, 8.0], "[MASK]": [8.0, 8.0], "bread": [0.0, 0.0],
    }  # fmt: skip
    context = with_file(context, tmp_path, entries)
    found = auxiliary(context, "words")
    assert words_of(context, found) == {"the": [1.0, 0.0], "cheese": [0.0, 1.0]}  # bread: a vector of zeros is none
    new = dict(zip(context.terms, found.new.tolist(), strict=True))
    assert new["zorblaxin"] == [0.5, 0.5] and new["quib vexalotl"] == [0.0, 2.0]
    assert np.isnan(new["brimwax"]).all()


def test_the_most_frequent_spelling_counts(context: InitContext, tmp_path: Path) -> None:
    context = with_file(context, tmp_path, {"the": [1.0], "cheese": [2.0], "zorblaxin": [1.0], "Zorblaxin": [5.0]})
    assert auxiliary(context, "words").new[context.terms.index("zorblaxin"), 0] == 1  # both are one row here


def test_words_are_mixed_by_the_tokens_they_are_written_with(
    init_context_of: Callable[..., InitContext], tmp_path: Path
) -> None:
    context = init_context_of("wordpiece")
    assert context.tokenizer is not None
    inside = "cheesezz"  # written with the token of cheese
    assert context.tokenizer.tokenize(inside)[0] == "cheese"
    context = with_file(context, tmp_path, {"the": [3.0], inside: [6.0], "cheese": [1.0], "zorblaxin": [1.0]})
    mixes = {mix: words_of(context, auxiliary(context, "words", mix))["cheese"][0] for mix in module.MIXES}
    assert mixes["own"] == 1
    assert mixes["uniform"] == pytest.approx((6 + 1) / 2)
    assert mixes["rank"] == pytest.approx((6 / 2 + 1 / 3) / (1 / 2 + 1 / 3))


def test_rows_of_zeros_are_no_anchors(init_context_of: Callable[..., InitContext], tmp_path: Path) -> None:
    context = init_context_of("wordpiece")
    assert context.tokenizer is not None
    table = context.table.detach().clone()
    table[context.tokenizer.convert_tokens_to_ids("the")] = 0
    context = with_file(replace(context, table=table), tmp_path, {"the": [1.0], "cheese": [2.0]})
    assert list(words_of(context, auxiliary(context, "words"))) == ["cheese"]


def test_a_file_of_another_language_is_refused(context: InitContext, tmp_path: Path) -> None:
    context = with_file(context, tmp_path, {"zzyzx": [1.0], "zorblaxin": [2.0]})
    with pytest.raises(InputError, match="no vector for any whole word") as told:
        auxiliary(context, "words")
    assert told.value.where == context.options.vectors and told.value.hint


def test_a_missing_file_is_named(context: InitContext, tmp_path: Path) -> None:
    for name in ("none.txt", "."):
        with pytest.raises(InputError, match=r"no such file|cannot be read") as told:
            auxiliary(replace(context, options=InitOptions(vectors=tmp_path / name)), "words")
        assert told.value.where == tmp_path / name


def test_the_text_as_words(context: InitContext) -> None:
    found = module.text_words(replace(context, texts=tuple(TEXTS)))
    lowered = [[word.lower() for word in text] for text in found]
    assert lowered[:2] == [["zorblaxin", ",", "the", "cheese"], ["quib vexalotl"]]
    assert "".join(lowered[2]) == "zorblaxins"


@pytest.mark.parametrize("unit", ["tokens", "words"])
def test_training_gives_vectors_to_terms_of_which_there_is_text(
    context: InitContext, unit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gensim")
    monkeypatch.setattr("contrastok.word_vectors.ENOUGH", 1)  # as few epochs as there are
    found = auxiliary(context, unit)
    told = dict(zip(context.terms, found.new.isfinite().all(dim=-1).tolist(), strict=True))
    assert told == {"zorblaxin": True, "brimwax": False, "quib vexalotl": True}
    assert (
        len(found.anchors) > 40 and found.known.isfinite().all() and found.known.shape[1] == found.new.shape[1] == 100
    )
    assert {"the", "and"} <= set(words_of(context, found))


def test_what_was_trained_is_kept_by_content(
    init_context_of: Callable[..., InitContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = init_context_of("wordpiece")
    assert context.encoder is not None
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path))
    context = replace(context, encoder=FrozenEncoder(context.encoder.model, context.encoder.tokenizer))
    asked: list[int] = []

    def trained(sentences: Any, seed: int) -> Any:
        asked.append(seed)
        return iter([("the", np.array([1.0 + seed, 2.0], np.float32)), ("zorblaxin", np.array([1.0, 1.0], np.float32))])

    monkeypatch.setattr(module, "train_word_vectors", trained)
    one, again = auxiliary(context, "words"), auxiliary(context, "words")
    assert asked == [0] and torch.equal(one.known, again.known) and torch.equal(one.new[0], again.new[0])
    other = auxiliary(replace(context, seed=5), "words")
    assert asked == [0, 5] and not torch.equal(one.known, other.known)
    auxiliary(replace(context, texts=context.texts[:-1]), "words")
    assert len(asked) == 3
    for mix in module.MIXES:
        auxiliary(context, "words", mix)  # all mixes are made of the same vectors
    assert len(asked) == 3
