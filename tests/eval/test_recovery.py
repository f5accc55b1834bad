from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from contrastok.candidates import candidates
from contrastok.checkpoint import INITIAL_ROWS, ROWS, load_checkpoint
from contrastok.cli import main
from contrastok.console import Console
from contrastok.data_gen.word_sentences import SentenceTable
from contrastok.data_gen.wordnet import WordNet
from contrastok.errors import ContrastokError, InputError
from contrastok.eval.recovery import MARKER, prepare, recovery
from contrastok.eval.recovery_corpus import without_own_texts
from contrastok.eval.recovery_figures import METRICS, Space, Standing, centred, recovery_figures, related_figures, stand
from contrastok.eval.recovery_sample import attested, draw, draw_sample, eligible_words, sentence_table
from contrastok.eval.recovery_table import recovery_tables
from contrastok.eval.start import training_texts
from contrastok.eval_config import RecoveryConfig
from contrastok.evidence import read_evidence
from contrastok.models import input_embedding, load_model, load_tokenizer
from contrastok.vocabulary import encode_plain, pieces
from tests.conftest import KITCHEN

from .conftest import PRIOR, documented

WORDNET = Path(__file__).parents[1] / "data_gen" / "data" / "wordnet"
QUIET = Console(quiet=True)
OPTIONS = """
[gen-pairs]
max-sentences = 6
known-sentences = 2
wordnet = "none"
hold-out = 0.5
[train]
batch-size = 8
device = "cpu"
"""


@pytest.fixture(scope="module")
def words(tiny_model: Path) -> list[str]:
    tokenizer = load_tokenizer(str(tiny_model))
    found = [w for w in candidates(tokenizer).words if w.isalpha() and len(w) > 4 and len(pieces(tokenizer, w)) == 1]
    return found[::9][:5]


@pytest.fixture(scope="module")
def make(tiny_model: Path, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RecoveryConfig]:
    """A function (**options) -> RecoveryConfig of a small run on the kitchen's text."""
    folder = tmp_path_factory.mktemp("recovery")
    entries = [
        {
            "token": word,
            "definition": f"a thing like {words[i - 1]} and salt",
            "synonyms": ["butter"],
            "broader": ["soup"],
        }
        for i, word in enumerate(words)
    ]
    (folder / "terms.jsonl").write_text("\n".join(map(json.dumps, [*entries, {"token": "zorblaxin"}])))
    (folder / "run.toml").write_text(OPTIONS)

    def config(**options: Any) -> RecoveryConfig:
        defaults: dict[str, Any] = {
            "terms": (folder / "terms.jsonl",), "corpus": (str(KITCHEN / "corpus"),), "model": str(tiny_model),
            "config": folder / "run.toml", "epochs": 2, "quiet": True, "seed": 3,
        }  # fmt: skip
        return RecoveryConfig(**{**defaults, **options})

    return config


@pytest.fixture(scope="module")
def run(make: Callable[..., RecoveryConfig], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    work = tmp_path_factory.mktemp("work") / "kept"
    return work, recovery(make(work=work))


def test_every_figure_has_its_interval(run: tuple[Path, dict[str, Any]], words: list[str]) -> None:
    result = run[1]
    json.dumps(result, allow_nan=False)
    blocks = [result, result["encoded"]]
    for block in blocks:
        views = [block["initial"], block["trained"], *block["baselines"].values()]
        for figures in views:
            assert figures["units"] == len(words)
            for name in METRICS:
                low, high = figures[f"{name}_interval"]
                assert low <= figures[name] <= high
        for name in METRICS:
            assert block["gain"][name] == pytest.approx(block["trained"][name] - block["initial"][name])
            low, high = block["gain"][f"{name}_interval"]
            assert low <= block["gain"][name] <= high
    for what, block in zip(("row", "output"), blocks, strict=True):
        assert {*block["baselines"], "initial", "trained"} == documented("recovery", what)


def test_figures_do_not_tell_where_the_work_was_done(run: tuple[Path, dict[str, Any]]) -> None:
    work, result = run
    assert str(work) not in json.dumps(result)
    assert result["training"]["epochs"] == 2


def test_the_true_row_finds_itself_first(run: tuple[Path, dict[str, Any]]) -> None:
    for block in (run[1], run[1]["encoded"]):
        oracle = block["baselines"]["oracle"]
        assert (oracle["mrr"], oracle["hit@1"], oracle["median_rank"], oracle["overlap@10"]) == (1, 1, 1, 1)
        assert block["baselines"]["random"]["mrr"] < 0.5


def test_words_that_are_none_are_named(run: tuple[Path, dict[str, Any]], words: list[str]) -> None:
    assert [word["token"] for word in run[1]["words"]] == words
    assert [item["term"] for item in run[1]["skipped"]] == ["zorblaxin"]
    assert all(word["ranks"]["rows"]["trained"] >= 1 and len(word["pieces"]) > 1 for word in run[1]["words"])


@pytest.fixture
def other_model(tiny_model: Path, words: list[str], tmp_path: Path) -> Path:
    """The same model with other gold rows."""
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    model = load_model(str(tiny_model))
    ids = [pieces(model.tokenizer, word)[0] for word in words]
    with torch.no_grad():
        input_embedding(model).weight[ids] = torch.randn(len(ids), 32, generator=torch.Generator().manual_seed(5)) * 3
    model.save_pretrained(str(other))
    return other


def assert_rows_alike(one: Path, other: Path) -> None:
    for file in (ROWS, INITIAL_ROWS):
        before, after = (load_file(work / "model" / file)["rows"] for work in (one, other))
        assert torch.equal(before, after)
    assert not torch.equal(load_file(one / "model" / ROWS)["rows"], load_file(one / "model" / INITIAL_ROWS)["rows"])


def test_the_learned_row_does_not_know_the_gold_row(
    run: tuple[Path, dict[str, Any]], make: Callable[..., RecoveryConfig], other_model: Path, tmp_path: Path
) -> None:
    changed = recovery(make(model=str(other_model), work=tmp_path / "work"))
    assert_rows_alike(run[0], tmp_path / "work")
    assert changed["trained"] != run[1]["trained"]  # the ranks are asked of the other gold rows


def shape(prior: dict[str, Any]) -> dict[str, Any]:
    """The names of everything that a manifest says of a predictor."""
    first, *trials = prior["calibration"]
    start, *pairs = prior["pair_calibration"]
    parts = {"fits": prior["fits"].values(), "trials": trials, "first": [first], "reliability": prior["reliability"]}
    parts |= {"pair start": [start], "pair trials": pairs}
    named = {name: {key for part in found for key in part} for name, found in parts.items()}
    return {"": set(prior), "settings": set(prior["settings"]), **named}


def test_the_predictor_does_not_know_the_gold_row(
    few_known_words_do: None,
    make: Callable[..., RecoveryConfig],
    words: list[str],
    tiny_model: Path,
    other_model: Path,
    tmp_path: Path,
) -> None:
    """Neither the map, nor its covariance, nor what calibration chooses, nor the word stage."""
    (tmp_path / "run.toml").write_text(OPTIONS + "calibrate = 3\n")
    runs = {name: tmp_path / name for name in ("one", "two")}
    found = [
        recovery(make(model=str(model), work=work, init="predictor", config=tmp_path / "run.toml"))
        for model, work in zip((tiny_model, other_model), runs.values(), strict=True)
    ]
    assert_rows_alike(*runs.values())
    manifests = [load_checkpoint(work / "model").manifest for work in runs.values()]
    assert manifests[0]["init"] == "predictor" and len(manifests[0]["prior"]["calibration"]) == 4
    assert manifests[0]["prior"] == manifests[1]["prior"]
    assert shape(manifests[0]["prior"]) == shape(PRIOR)
    assert all(0 < token["confidence"] < 1 for token in manifests[0]["tokens"])
    assert [t["confidence"] for t in manifests[0]["tokens"]] == [t["confidence"] for t in manifests[1]["tokens"]]
    assert found[0]["trained"] != found[1]["trained"]
    # No known word that the predictor learned from is one of those that were hidden.
    known = {word.token for word in read_evidence(runs["one"] / "pairs") or () if word.known}
    assert len(known) >= 40 and known.isdisjoint(words)


def test_no_training_text_holds_a_hidden_id(run: tuple[Path, dict[str, Any]], tiny_model: Path) -> None:
    work, result = run
    tokenizer = load_tokenizer(str(tiny_model))
    gold = {word["id"] for word in result["words"]}
    texts = [text for told in training_texts(load_checkpoint(work / "model"), work / "pairs").values() for text in told]
    texts += [line for file in (KITCHEN / "corpus").glob("*.txt") for line in file.read_text().splitlines()]
    assert gold <= {i for ids in encode_plain(tokenizer, texts) for i in ids}
    for folder in ("base", "model"):
        hidden = load_tokenizer(str(work / folder))
        assert gold.isdisjoint({i for ids in encode_plain(hidden, texts) for i in ids})


def test_a_kept_folder_is_not_replaced_unasked(
    run: tuple[Path, dict[str, Any]], make: Callable[..., RecoveryConfig]
) -> None:
    assert json.loads((run[0] / MARKER).read_text())["words"] == [word["token"] for word in run[1]["words"]]
    with pytest.raises(ValueError, match="exists already"):
        recovery(make(work=run[0]))


@pytest.mark.parametrize("wrong", ["model", "corpus"])
def test_a_run_that_ends_in_an_error_leaves_no_folder(
    make: Callable[..., RecoveryConfig], tmp_path: Path, wrong: str
) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    options: dict[str, Any] = {"model": {"model": str(tmp_path / "no")}, "corpus": {"corpus": (str(empty),)}}[wrong]
    work = tmp_path / "work"
    with pytest.raises(ContrastokError):
        recovery(make(work=work, **options))
    assert not work.exists()
    work.mkdir()
    (work / MARKER).write_text("{}")
    with pytest.raises(ContrastokError):
        recovery(make(work=work, overwrite=True, **options))
    assert work.exists()  # what stood there before is the user's


def test_related_words_that_training_saw_do_not_count(run: tuple[Path, dict[str, Any]], tiny_model: Path) -> None:
    work, result = run
    texts = training_texts(load_checkpoint(work / "model"), work / "pairs")
    words = candidates(load_tokenizer(str(tiny_model))).words
    unseen = 0
    for word in result["words"]:
        told = " ".join(texts[word["token"]]).casefold()
        names = [name for name in ("butter", "soup") if name in words and not re.search(rf"\b{name}\b", told)]
        assert (word["related"]["rows"]["oracle"] is not None) == bool(names)
        unseen += bool(names)
    assert 0 < unseen < len(result["words"])
    assert result["related"]["rows"]["trained"]["units"] == unseen


def test_without_related_words_there_is_no_share() -> None:
    nothing = standing([1.0, 2.0], [float("nan"), float("nan")])
    related = related_figures({"initial": nothing, "trained": nothing, "oracle": nothing}, seed=0)
    assert related["trained"] == {"hit@10": None, "hit@10_interval": None, "units": 0}
    assert related["share_of_oracle"] is None and related["gain"]["hit@10"] is None


def test_where_nothing_is_related_a_sentence_stands_for_the_table() -> None:
    views = dict.fromkeys(("initial", "trained", "oracle"), standing([1.0, 2.0], [float("nan"), float("nan")]))
    ranks, related = recovery_figures(views, seed=0), related_figures(views, seed=0)
    result = {
        **ranks, "encoded": ranks, "related": {"rows": related, "encoded": related},
        "candidates": {"rows": 3, "encoded": 2}, "model": "m", "words": [{}, {}],
    }  # fmt: skip
    *tables, last = recovery_tables(result)
    assert len(tables) == 2 and "--glossary" in str(last)


def test_the_command_tells_the_words_and_writes_nothing(
    make: Callable[..., RecoveryConfig], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make()
    arguments = ["eval", "recovery", "--terms", str(config.terms[0]), "--corpus", *config.corpus]
    arguments += ["--model", config.model, "--dry-run", "--work", str(tmp_path / "w"), "--json", "-"]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert [word["token"] for word in json.loads(told.out)["words"]] == words
    assert "'zorblaxin' is no word of this model" in told.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corpus", "x"], "give either --terms or --sample"),
        (["--sample", "2", "--terms", "t.txt", "--corpus", "x"], "give either --terms or --sample"),
        (["--sample", "2"], "--corpus is missing"),
        (["--sample", "2", "--corpus", "x", "--init", "nothing"], "--init nothing is no initialiser"),
        (["--sample", "2", "--corpus", "x", "--min-evidence", "0"], "--min-evidence must be at least 1"),
    ],
)
def test_wrong_options_are_told(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "recovery", *options]) == 2
    assert message in capsys.readouterr().err


def test_no_word_is_left(make: Callable[..., RecoveryConfig], tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("zorblaxin\n")
    with pytest.raises(InputError, match="no word can be hidden: 'zorblaxin' is no word"):
        recovery(make(terms=(tmp_path / "terms.txt",)))


def test_a_sample_is_drawn_from_what_the_corpus_tells(make: Callable[..., RecoveryConfig], tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    config = make(terms=(), sample=4, min_evidence=3)
    drawn = draw_sample(config, tokenizer, QUIET)
    assert drawn == draw_sample(config, tokenizer, QUIET) == sorted(set(drawn)) and len(drawn) == 4
    lines = [line for file in (KITCHEN / "corpus").glob("*.txt") for line in file.read_text().splitlines()]
    for word in drawn:
        (i,) = pieces(tokenizer, word)
        assert word.isalpha() and len(word) > 3
        assert sum(i in ids for ids in encode_plain(tokenizer, lines)) >= 3
    with pytest.raises(InputError, match=r"only \d+ words of the vocabulary have 3 sentences.*\n.*--min-evidence"):
        draw_sample(make(terms=(), sample=500, min_evidence=3), tokenizer, QUIET)


def test_sentences_of_fewer_words_and_of_own_synsets_do_not_count(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    words = eligible_words(tokenizer, None)
    assert {"cheese", "with"} <= set(words)
    table: SentenceTable = sentence_table(tokenizer, 0)
    table.add("They like the cheese.")
    (own,) = table.add("They all like the cheese.")
    (other,) = table.add("We all went with the cheese.")
    assert "cheese" in attested(words, table, tokenizer, 2, QUIET)
    assert "cheese" not in attested(words, table, tokenizer, 3, QUIET)
    assert "cheese" not in attested(words, table, tokenizer, 2, QUIET, {own: {list(words).index("cheese")}})
    assert "with" in attested(words, table, tokenizer, 1, QUIET) and other in table.by_hash


def test_what_wordnet_says_of_a_word_itself_is_no_sentence_of_it(
    make: Callable[..., RecoveryConfig], tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    given = {"corpus": (str(WORDNET),), "glossary": (WORDNET,), "text_field": "body"}
    sampled = make(terms=(), sample=1, min_evidence=2, **given)
    assert draw_sample(sampled, tokenizer, QUIET) == ["cheese"]
    with pytest.raises(InputError, match="only 0 words of the vocabulary have 3 sentences"):
        draw_sample(dataclasses.replace(sampled, min_evidence=3), tokenizer, QUIET)
    (tmp_path / "terms.txt").write_text("cheese\n")
    prepare(make(terms=(tmp_path / "terms.txt",), **given), tmp_path / "work", QUIET)
    evidence = next(word for word in read_evidence(tmp_path / "work" / "pairs") or () if word.token == "cheese")
    assert "a town known for its cheese" in evidence.sentences and evidence.definition
    assert not {"a slice of cheese", "they sell cheese; and bread"} & set(evidence.sentences)


def test_other_sources_are_mined_as_they_are(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    corpus = (str(KITCHEN / "corpus"), str(WORDNET), "some/dataset")
    found = without_own_texts(corpus, ["Cheese", "bread"], tokenizer, tmp_path, "text")
    assert (found[0], found[2]) == (corpus[0], corpus[2])
    kept = [json.loads(line)["text"] for line in Path(found[1]).read_text().splitlines()]
    every = [text for synset in WordNet(WORDNET).synsets() for text in synset.texts]
    assert [text for text in every if text not in kept] == ["a slice of cheese", "they sell cheese; and bread"]


def test_wordnet_chooses_nouns(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    assert set(eligible_words(tokenizer, WordNet(WORDNET))) == {"cheese"}


def test_draws_differ_by_seed() -> None:
    words = [f"word{i}" for i in range(100)]
    assert draw(words, 10, 1, 8, "here") == draw(words, 10, 1, 8, "here") != draw(words, 10, 2, 8, "here")


def space(generator: np.random.Generator, count: int = 60) -> Space:
    vectors = centred(generator.normal(size=(count, 8)).astype(np.float32), np.zeros(8, np.float32))
    return Space(vectors, [3, 7], [[3, 4], [7]])


def test_ranks_overlap_and_hits_against_a_plain_count() -> None:
    generator = np.random.default_rng(0)
    here = space(generator)
    queries = here.vectors[[3, 7]] + 0.4 * generator.normal(size=(2, 8)).astype(np.float32)
    related = [{20, 21, 22, 23}, {5}]
    found = stand(here, queries, related)
    for i, own in enumerate(here.forms):
        order = [j for j in np.argsort(-(here.vectors @ queries[i])) if j not in own or j == here.gold[i]]
        assert found.ranks[i] == order.index(here.gold[i]) + 1
        near = [j for j in order if j not in own][:10]
        gold_order = np.argsort(-(here.vectors @ here.vectors[here.gold[i]]))
        gold_near = [j for j in gold_order if j not in own][:10]
        assert found.overlaps[i] == pytest.approx(len(set(near) & set(gold_near)) / 10)
        assert found.hits[i] == bool(set(near) & related[i])


def test_a_view_without_a_vector_has_no_rank() -> None:
    here = space(np.random.default_rng(1))
    queries = here.vectors[[3, 7]].copy()
    queries[1] = np.nan
    found = stand(here, queries, [set(), {1}])
    assert found.ranks[0] == 1 and np.isnan(found.ranks[1]) and np.isnan(found.overlaps[1])
    assert np.isnan(found.hits).all()


def standing(ranks: list[float], hits: list[float]) -> Standing:
    return Standing(np.array(ranks), np.array(ranks) / 10, np.array(hits))


def test_figures_of_known_ranks() -> None:
    views = {
        "initial": standing([2, 4, 20, 100], [0, 0, 0, 1]),
        "trained": standing([1, 2, 4, 50], [1, 0, 1, 1]),
        "oracle": standing([1, 1, 1, 1], [1, 1, 1, 1]),
        "encode(gloss)": standing([5, float("nan"), 5, 5], [1, float("nan"), 1, 0]),
    }
    result = recovery_figures(views, seed=0)
    assert result["trained"]["mrr"] == pytest.approx((1 + 0.5 + 0.25 + 0.02) / 4)
    assert (result["trained"]["hit@1"], result["trained"]["hit@10"], result["trained"]["median_rank"]) == (
        0.25,
        0.75,
        3,
    )
    assert result["baselines"]["encode(gloss)"]["units"] == 3
    assert result["gain"]["hit@10"] == 0.25 and result["gain"]["mrr_interval"][0] > 0
    assert "gain_over_split_word" not in result
    related = related_figures(views, seed=0)
    assert related["share_of_oracle"] == 0.75 and related["gain"]["hit@10"] == 0.5
    assert related["baselines"]["encode(gloss)"]["hit@10"] == pytest.approx(2 / 3)
