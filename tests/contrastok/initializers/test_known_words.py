from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from contrastok.errors import InputError
from contrastok.features import WordInput
from contrastok.hiding import hidden_alone
from contrastok.initializers import InitContext, initial_rows
from contrastok.initializers.known_words import context_means, induction_matrix, linear_map
from contrastok.models import transformer
from contrastok.vocabulary import encode_plain

Context = Callable[[str], InitContext]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_context_means_leave_out_the_word() -> None:
    table = random(10, 4).numpy()
    word = WordInput((1, 2), (1, 1), sentences=((3, 1, 2, 4), (1, 2, 5), (1, 2)), places=((1, 2), (0, 1), (0, 1)))
    means, counts = context_means([word, WordInput((1,), (1,))], table)
    expected = ((table[3] + table[4]) / 2 + table[5]) / 2
    np.testing.assert_allclose(means[0], expected, rtol=1e-5)
    assert counts.tolist() == [2, 0] and means[1].isnan().all()


def test_the_induction_matrix_is_weighted_least_squares() -> None:
    u, v = random(200, 5).double(), random(200, 5, seed=1).double()
    weights = random(200, seed=2).double().abs()
    penalty = 1e-3 * float((weights[:, None] * u.square()).sum()) / 5
    gram = sum(w * torch.outer(x, x) for w, x in zip(weights, u, strict=True)) + penalty * torch.eye(5)
    right = sum(w * torch.outer(x, y) for w, x, y in zip(weights, u, v, strict=True))
    torch.testing.assert_close(induction_matrix(u, v, weights), torch.linalg.solve(gram, right))


def test_a_linear_map_is_found() -> None:
    a, b = random(6, 3, seed=1), random(3, seed=2)
    x, asked = random(3000, 6), random(4, 6, seed=3)
    found = linear_map(x + 5, x @ a + b)
    torch.testing.assert_close(found(asked + 5), asked @ a + b, rtol=0.05, atol=0.05)


def test_noise_gets_the_largest_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence that says nothing: the stiffer the map, the nearer it stays to the mean, and the better."""
    x, y = random(60, 30), random(60, 3, seed=1)
    both = [linear_map(x, y)(x)]
    monkeypatch.setattr("contrastok.fit.RIDGES", (300.0,))
    both.append(linear_map(x, y)(x))
    assert torch.equal(*both)


def test_alacarte_by_hand(few_known_words_do: None, make_context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastok.features.WINDOW", 500)  # sentences are looked at whole
    context = make_context("wordpiece")
    tokenizer = context.tokenizer
    assert tokenizer is not None and context.extended is not None and context.plan is not None
    table = context.table.detach().double().numpy()
    known = [word for word in context.evidence if word.known]
    hidden = hidden_alone(tokenizer, [word.token for word in known])

    def mean(texts: list[list[int]], own: set[int]) -> np.ndarray:
        found: np.ndarray = np.mean([table[[i for i in text if i not in own]].mean(0) for text in texts], axis=0)
        return found

    taught = [word for word in known if word.token in hidden]
    u = np.stack([mean(encode_plain(tokenizer, word.sentences), {hidden[word.token].id}) for word in taught])
    v = table[[hidden[word.token].id for word in taught]]
    c = np.log1p([len(word.sentences) for word in taught])
    new = np.stack(
        [
            mean(encode_plain(context.extended, word.sentences), set(context.plan.ids_of(word.token)))
            for word in context.of_terms()
        ]
    )
    top = np.linalg.svd(u)[2][:1]
    u, new = u - u @ top.T @ top, new - new @ top.T @ top
    gram = (u * c[:, None]).T @ u
    matrix = np.linalg.solve(gram + 1e-3 * np.trace(gram) / 32 * np.eye(32), (u * c[:, None]).T @ v)
    np.testing.assert_allclose(initial_rows("alacarte", context), new @ matrix, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["detok_map", "definition_map"])
def test_maps_read_what_they_say(few_known_words_do: None, make_context: Context, name: str) -> None:
    """The state of the first of two layers, the middle one, at the pieces alone; or the output for the definition."""
    context = make_context("wordpiece")
    tokenizer, encoder = context.tokenizer, context.encoder
    assert tokenizer is not None and encoder is not None and context.extended is not None
    hidden = hidden_alone(tokenizer, [word.token for word in context.evidence if word.known])
    known = [word for word in context.evidence if word.known and word.token in hidden]
    terms = list(context.of_terms())

    @torch.no_grad()
    def layers(ids: Sequence[int]) -> tuple[torch.Tensor, ...]:
        tokens = torch.tensor([[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]])
        states: tuple[torch.Tensor, ...] = transformer(encoder.model)(tokens, output_hidden_states=True).hidden_states
        return states

    def read(pieces: Sequence[int], definition: str, own: Sequence[int] = ()) -> torch.Tensor:
        if name == "detok_map":
            return layers(pieces)[1][0, 1:-1].mean(0)
        ids = [part for i in encode_plain(tokenizer, [definition])[0] for part in (pieces if i in own else [i])]
        return torch.nn.functional.normalize(layers(ids)[-1][0].mean(0), dim=0)

    words = [hidden[word.token] for word in known]
    x = torch.stack([read(old.pieces, word.definition, old.ids) for old, word in zip(words, known, strict=True)])
    asked = torch.stack([read(ids, word.definition) for ids, word in zip(context.pieces, terms, strict=True)])
    expected = linear_map(x, context.table[[old.id for old in words]])(asked)
    rows = initial_rows(name, context)
    told = [at for at, word in enumerate(terms) if name == "detok_map" or word.definition]
    # what the model says is kept in half precision
    torch.testing.assert_close(rows[told], expected[told], rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("name", ["alacarte", "definition_map"])
def test_a_term_without_the_evidence_starts_elsewhere(
    few_known_words_do: None, make_context: Context, name: str
) -> None:
    said: list[str] = []
    context = make_context("wordpiece")
    bare = tuple(
        replace(word, sentences=(), definition="") if word.token == "quib vexalotl" else word
        for word in context.evidence
    )
    rows = initial_rows(name, replace(context, evidence=bare, tell=said.append))
    assert torch.equal(rows[2], initial_rows("charlen_mean", context)[2])
    assert not torch.equal(rows[0], initial_rows("charlen_mean", context)[0])
    assert said[0] == f"{name} knows nothing of 1 of 3 terms (quib vexalotl); they start at charlen_mean."


@pytest.mark.parametrize(("name", "lost"), [("alacarte", "sentences"), ("definition_map", "definition")])
def test_too_few_known_words_are_told(few_known_words_do: None, make_context: Context, name: str, lost: str) -> None:
    context = make_context("wordpiece")
    empty = {"sentences": (), "definition": ""}[lost]
    poor = tuple(replace(word, **{lost: empty}) if word.known else word for word in context.evidence)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"{name} learns from known words with {lost}: there are 0, and 40"):
        initial_rows(name, replace(context, evidence=poor))


def test_only_what_a_map_looks_at_changes_it(few_known_words_do: None, make_context: Context) -> None:
    """The state of the pieces alone needs no sentence and no definition."""
    context = make_context("unigram")
    bare = tuple(replace(word, sentences=(), definition="") for word in context.evidence)
    rows = initial_rows("detok_map", context)
    assert torch.equal(rows, initial_rows("detok_map", replace(context, evidence=bare)))
