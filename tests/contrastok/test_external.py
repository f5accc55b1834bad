from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LinearRegression

from contrastok.auxiliary import Auxiliary
from contrastok.candidates import Candidates
from contrastok.checkpoint import INITIAL_ROWS, read_rows
from contrastok.config import TrainConfig
from contrastok.donor import donor_vectors, shared_words
from contrastok.errors import ConfigError, ModelError
from contrastok.initializers import InitContext, InitOptions, external, initial_rows
from contrastok.initializers.external import Scaling
from contrastok.matching_pursuit import matching_pursuit
from contrastok.models import input_embedding, load_model
from contrastok.trainer import train
from contrastok.vocabulary import extend_tokenizer, pieces, plan_vocabulary
from tests.conftest import FAMILIES


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_words_are_shared_one_to_one_and_the_same_spelling_goes_first() -> None:
    ours = Candidates((3, 4, 5, 6, 7), ("paris", "Paris", "wine", "NASA", "apple"))
    theirs = Candidates((10, 11, 12, 13), ("paris", "nasa", "Wine", "wine"))
    assert shared_words(ours, theirs) == ([3, 5, 6], [10, 13, 11])
    assert shared_words(theirs, ours) == ([10, 11, 13], [3, 6, 5])
    assert shared_words(ours, Candidates((1,), ("pear",))) == ([], [])


@pytest.fixture(scope="module")
def donors(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A donor of each family that knows zorblaxin as one token; the WordPiece one is a SentenceTransformer's folder."""
    folders = {}
    for family in FAMILIES:
        model = load_model(str(make_model(family)))
        extended = extend_tokenizer(model.tokenizer, plan_vocabulary(model.tokenizer, ["zorblaxin"]))
        inner = model[0].auto_model
        torch.manual_seed(3)
        inner.resize_token_embeddings(len(extended), mean_resizing=False)
        torch.nn.init.normal_(input_embedding(model).weight)
        folders[family] = tmp_path_factory.mktemp(f"donor-{family}")
        if family == "wordpiece":
            model.tokenizer._tokenizer = extended.backend_tokenizer
            SentenceTransformer(modules=list(model)).save(str(folders[family]))
        else:
            inner.save_pretrained(folders[family])
            extended.save_pretrained(folders[family])
    return folders


@pytest.mark.parametrize("donor", FAMILIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_carried_over_between_all_families(
    init_context_of: Callable[..., InitContext], donors: dict[str, Path], family: str, donor: str
) -> None:
    said: list[str] = []
    options = InitOptions(model=str(donors[donor]))
    context = replace(init_context_of(family), options=options, tell=said.append)
    model = load_model(options.model or "")
    rows, space = input_embedding(model).weight, donor_vectors(context)
    assert len(space.anchors) > 50
    assert context.tokenizer is not None
    ours = [word.strip() for word in context.tokenizer.batch_decode([[int(i)] for i in space.anchors])]
    named = {"the", "cheese"} & set(ours)
    assert named
    for word in named:
        (theirs,) = pieces(model.tokenizer, word)
        torch.testing.assert_close(space.known[ours.index(word)], rows[theirs].double())
    for term, new in zip(context.terms, space.new, strict=True):
        ids = pieces(model.tokenizer, term)
        assert (len(ids) == 1) == (term == "zorblaxin")
        if model.tokenizer.unk_token_id not in ids:
            torch.testing.assert_close(new, rows[ids].double().mean(0))
    for name in ("sava", "omp"):
        found = initial_rows(name, context)
        assert found.shape == (3, 32) and found.isfinite().all()
        assert torch.equal(found, initial_rows(name, context))
    assert any("sava: a map fitted on" in sentence and "R²" in sentence for sentence in said)


def test_a_donor_that_cannot_be_had_is_named(init_context_of: Callable[..., InitContext], tmp_path: Path) -> None:
    context = init_context_of("wordpiece")
    for name, said in ((str(tmp_path / "none"), "no such model folder"), ("some/hub-name", "no local model")):
        with pytest.raises(ModelError, match=said):
            initial_rows("sava", replace(context, options=InitOptions(model=name)))
    with pytest.raises(ConfigError, match=r"needs another model.*\n.*--init-model"):
        initial_rows("omp", context)
    told = TrainConfig(terms=(tmp_path,), pairs=tmp_path, out=tmp_path, init="sava").problems()
    assert told == ["--init sava needs another model, whose rows are carried over: give --init-model FOLDER"]


@pytest.fixture
def space(
    init_context_of: Callable[..., InitContext], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[InitContext, Auxiliary]:
    """A context whose donor is drawn: 80 anchors of 24 dimensions, and a term that it does not know."""
    context = replace(init_context_of("wordpiece"), options=InitOptions(model=str(tiny_model)))
    space = Auxiliary(torch.arange(100, 180), 2 * draw(80, 24) + 1, 2 * draw(3, 24, seed=1) + 1)
    space.new[1] = torch.nan
    monkeypatch.setattr(external, "donor_vectors", lambda context: space)
    return context, space


def test_sava_is_least_squares(space: tuple[InitContext, Auxiliary]) -> None:
    context, found = space
    rows = context.table[found.anchors].detach().double().numpy()
    expected = LinearRegression().fit(found.known.numpy(), rows).predict(found.new[[0, 2]].numpy())
    np.testing.assert_allclose(initial_rows("sava", context)[[0, 2]].numpy(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(initial_rows("sava", context)[1], initial_rows("charlen_mean", context)[1])


def test_sava_finds_a_linear_map_again_and_draws_its_anchors_by_seed(
    space: tuple[InitContext, Auxiliary], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, found = space
    turn, table = draw(24, 32, seed=5), context.table.detach().double().clone()
    table[found.anchors] = found.known @ turn + 1
    rows = initial_rows("sava", replace(context, table=table))
    torch.testing.assert_close(rows[[0, 2]], (found.new[[0, 2]] @ turn + 1).float())
    monkeypatch.setattr(external, "ANCHORS", 40)
    one, same, other = (initial_rows("sava", replace(context, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.allclose(one, other)


def test_scaling_is_undone() -> None:
    values = draw(30, 4) * torch.tensor([1.0, 5.0, 0.1, 0.0], dtype=torch.float64) + 3
    scaling = Scaling.of(values)
    scaled = scaling.scaled(values)
    assert float(scaled.norm(dim=-1).mean()) == pytest.approx(1)
    assert scaled.std(dim=0, correction=0)[:3].tolist() == pytest.approx([1 / scaling.norm] * 3)
    torch.testing.assert_close(scaling.undone(scaled), values)


def test_omp_reuses_the_donors_coefficients(space: tuple[InitContext, Auxiliary]) -> None:
    context, found = space
    places, weights = matching_pursuit(found.new[[0, 2]], found.known, 6)  # a quarter of 24 dimensions
    table = context.table.detach().double()
    expected = torch.einsum("nm,nmd->nd", weights, table[found.anchors[places]])
    rows = initial_rows("omp", context)
    torch.testing.assert_close(rows[[0, 2]], expected.float())
    assert torch.equal(rows[1], initial_rows("charlen_mean", context)[1])


@pytest.mark.parametrize("init", ["sava", "similar_mean"])
def test_train_starts_from_them(
    make_config: Callable[..., TrainConfig], donors: dict[str, Path], tmp_path: Path, init: str
) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("the 1 0\ncheese 0 1\nzorblaxin 1 1\n")
    options = {"init_model": str(donors["unigram"])} if init == "sava" else {"init_vectors": vectors}
    found, plain = make_config(init=init, epochs=0, **options), make_config(init="charlen_mean", epochs=0)
    for config in (found, plain):
        train(config)
    assert found.out and plain.out
    assert json.loads((found.out / "contrastok.json").read_text())["init"] == init
    rows, other = (read_rows(config.out / INITIAL_ROWS) for config in (found, plain) if config.out)
    assert np.isfinite(rows).all() and not np.array_equal(rows[0], other[0])
    assert np.array_equal(rows[1], other[1]) == (init == "similar_mean")  # the file does not know brimwax
