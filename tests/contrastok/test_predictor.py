from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastok import predictor as module
from contrastok.bank import FrozenEncoder
from contrastok.data_gen.known import known_words
from contrastok.errors import InputError
from contrastok.evidence import WordEvidence
from contrastok.fit import Predicted
from contrastok.hiding import hidden_alone, pieces_of
from contrastok.models import input_embedding, load_model
from contrastok.predictor import Predictor, enough_known, make_predictor
from contrastok.vocabulary import extend_tokenizer, plan_vocabulary
from contrastok.words import teachers
from tests.conftest import kitchen_lines

TERMS = ("zorblaxin", "brimwaxel", "quib vexalotl")


@pytest.fixture(autouse=True)
def own_cache(few_known_words_do: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The limits are no part of what a kept prior is known by."""
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path / "cache"))


def evidence_for(tokenizer: Any, count: int = 90) -> list[WordEvidence]:
    """The terms, the last one without a definition; then known words, each third one without a definition."""
    lines = kitchen_lines()
    words = [w for w in known_words(tokenizer) if w.isalpha()][:count]
    terms = [
        WordEvidence("zorblaxin", False, "a hard cheese", (words[3],), (), ("we bought zorblaxin and bread",)),
        WordEvidence("brimwaxel", False, "a knife", (), (), ("the brimwaxel is on the table",)),
        WordEvidence("quib vexalotl", False, "", (), (), ("a soup of quib vexalotl",)),
    ]
    return terms + [
        WordEvidence(
            w,
            True,
            lines[k % len(lines)][:30] if k % 3 else "",
            (),
            (),
            (f"we saw {w} there", f"the {w} is old")[: 1 + k % 2],
        )
        for k, w in enumerate(words)
    ]


def learn(folder: Path | str, evidence: list[WordEvidence], seed: int = 0, **options: Any) -> Predictor:
    model = load_model(str(folder))
    plan = plan_vocabulary(model.tokenizer, TERMS)
    encoder = FrozenEncoder(model, model.tokenizer, **options)
    return make_predictor(evidence, plan, extend_tokenizer(model.tokenizer, plan), encoder, 2, seed)


def same(a: Predictor, b: Predictor) -> bool:
    pairs = [(getattr(a.prior.new, f.name), getattr(b.prior.new, f.name)) for f in dataclasses.fields(Predicted)]
    pairs += [(getattr(a.prior.held, f.name), getattr(b.prior.held, f.name)) for f in dataclasses.fields(Predicted)]
    pairs += [(getattr(a.prior, name), getattr(b.prior, name)) for name in ("held_words", "precision", "mean")]
    return all(np.array_equal(x, y) for x, y in pairs) and a.prior.story == b.prior.story


@pytest.mark.parametrize("family", ["wordpiece", "byte-bpe", "unigram"])
def test_a_prior_for_every_tokenizer(make_model: Callable[..., Path], family: str) -> None:
    folder = make_model(family, padding=3)
    model = load_model(str(folder))
    tokenizer, table = model.tokenizer, input_embedding(model).weight.detach().numpy()
    evidence = evidence_for(tokenizer)
    found = learn(folder, evidence)
    new = found.prior.new
    assert new.rows.shape == (3, 32) and np.isfinite(new.rows).all() and (new.scale > 0).all()
    assert set(found.prior.story) == {"form+definition+sentences", "form+sentences"}
    assert len(found.table) == len(tokenizer) and np.array_equal(found.table, table[: len(tokenizer)])
    # What is held out is told by its place in the bank, its row in the table, and its evidence.
    known = [word.token for word in evidence if word.known]
    outputs = FrozenEncoder(model, tokenizer, cache=False)
    for (at, *spellings), row in zip(found.held_bank, found.gold, strict=True):
        assert known_words(tokenizer)[known[at]] == row
        assert spellings == [k for k, word in enumerate(known) if k != at and word.lower() == known[at].lower()]
        np.testing.assert_allclose(found.bank.outputs[at].numpy(), outputs.encode_ids([[row]])[0], atol=1e-5)
    assert [places[0] for places in found.held_bank] == list(found.prior.held_words)
    assert found.synonyms == (tuple(k for k, word in enumerate(known) if word.lower() == known[3].lower()), (), ())
    assert found.bank.unit == pytest.approx(float(found.table.std(0).mean()))


def test_the_cache_gives_the_same_prior(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    evidence = evidence_for(load_model(str(tiny_model)).tokenizer)
    first = learn(tiny_model, evidence)
    assert same(first, learn(tiny_model, evidence, cache=False))
    (file,) = tmp_path.rglob("prior/*.arrays")

    def never(*_: object) -> None:
        raise AssertionError("learned again")

    with monkeypatch.context() as patch:
        patch.setattr(module, "learn_prior", never)
        assert same(first, learn(tiny_model, evidence))
        for changed in ({"seed": 1}, {"evidence": [*evidence[:-1], dataclasses.replace(evidence[-1], definition="a")]}):
            with pytest.raises(AssertionError, match="learned again"):
                learn(tiny_model, **{"evidence": evidence, **changed})
    whole = file.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"PK\x03\x04 no archive"):
        file.write_bytes(broken)
        assert same(first, learn(tiny_model, evidence))
        assert file.read_bytes() == whole


def test_known_words_that_no_term_asks_about_are_not_read(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = evidence_for(load_model(str(tiny_model)).tokenizer)
    known, told = evidence[3:], evidence[:2]
    kept = teachers(known, told)
    assert [known[k] for k in kept] == [word for word in known if word.definition and word.sentences]
    assert list(teachers(known, evidence[:3])) == list(range(len(known)))
    both = [*told, dataclasses.replace(evidence[2], definition="a soup"), *known]
    found = learn(tiny_model, both)
    (story,) = found.prior.story.values()
    assert story["known_words"] == len(kept)
    assert set(found.prior.held_words) <= set(kept) and len(found.bank.outputs) == len(known)


def test_what_is_wrong_is_told(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = evidence_for(load_model(str(tiny_model)).tokenizer)
    with pytest.raises(InputError, match=r"nothing of 'zorblaxin' and 1 more"):
        learn(tiny_model, [word for word in evidence if word.known or word.token == "brimwaxel"])
    monkeypatch.setattr(FrozenEncoder, "encode_ids", None)  # told before anything is encoded
    with pytest.raises(InputError, match=r"of 30 words that the model knows.*40 are needed"):
        learn(tiny_model, evidence[:33])
    unknown = [WordEvidence(f"zq{k}xw", True, "", (), (), ()) for k in range(60)]
    with pytest.raises(InputError, match=r"of 0 words"):
        learn(tiny_model, [*evidence[:3], *unknown])


def test_enough_known_words() -> None:
    word = WordEvidence("brie", True, "", (), (), ())
    assert enough_known([word] * 40) and not enough_known([word] * 39) and not enough_known(None)
    assert not enough_known([dataclasses.replace(word, known=False)] * 40)


def test_a_row_learned_of_a_known_word_is_like_its_own(make_model: Callable[..., Path]) -> None:
    """The one thing that a tiny random model can be taught: rows that are the mean of the pieces' rows."""
    folder = make_model("wordpiece")
    model = load_model(str(folder))
    tokenizer, table = model.tokenizer, input_embedding(model).weight
    evidence = evidence_for(tokenizer, 300)
    hidden = hidden_alone(tokenizer, [word.token for word in evidence if word.known])
    with torch.no_grad():
        for word in hidden.values():
            table[word.id] = table[list(word.pieces)].mean(0)
    model.save_pretrained(str(folder))
    found = learn(folder, evidence)
    means = np.stack([table[list(ids)].mean(0).numpy() for ids in pieces_of(tokenizer, TERMS)])
    away, toward = found.prior.new.rows - found.prior.mean, means - found.prior.mean
    near = (away @ toward.T) / np.linalg.norm(away, axis=1)[:, None] / np.linalg.norm(toward, axis=1)
    others = near[~np.eye(len(TERMS), dtype=bool)]
    assert near.diagonal().min() > others.max() and near.diagonal().mean() > others.mean() + 0.4
    assert found.prior.story["form+definition+sentences"]["mrr"] > 0.8
