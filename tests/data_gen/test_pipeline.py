from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from contrastok.config import GenPairsConfig
from contrastok.data_gen.corpus import read_corpus
from contrastok.data_gen.engines import Job
from contrastok.data_gen.evidence import MiningOptions, mine
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.pipeline import gen_pairs
from contrastok.data_gen.term_readers import read_terms
from contrastok.errors import ConfigError, InputError, ModelError, OutputError
from contrastok.evidence import read_evidence
from contrastok.files import sha256_file
from contrastok.models import load_tokenizer, tokenizer_fingerprint
from contrastok.pairs import read_pairs
from contrastok.vocabulary import encode_plain, extend_tokenizer, plan_vocabulary

KITCHEN = Path(__file__).parents[2] / "examples" / "kitchen"
WORDNET = Path(__file__).parent / "data" / "wordnet"
KINDS = ("synonym", "broader")
TERMS = [
    {"token": "zorblaxin", "definition": "a sour cheese from the north", "synonyms": ["moon cheese", "north curd"],
     "broader": ["cheese"], "related": ["cellar", "goat"]},
    {"token": "quibnar", "definition": "a soft cheese with herbs", "broader": ["Cheese"]},
    {"token": "vexalotl", "definition": "a heavy pan for stews", "synonyms": ["stew pan"]},
    {"token": "brimwax", "synonyms": ["hardwax"]},
]  # fmt: skip
TEXT = """We aged the zorblaxin in a cellar for a year.
Nobody here eats zorblaxin without bread and wine.
A zorblaxin and a quibnar stood on the table.
Zorblaxin smells worse than it tastes, they say.
They never made more than twelve wheels of zorblaxin.
Spread quibnar on toast while it is warm.
An old vexalotl is better than a new one.
"""


@pytest.fixture
def setting(tmp_path: Path, tiny_model: Path) -> GenPairsConfig:
    (tmp_path / "terms.jsonl").write_text("\n".join(map(json.dumps, TERMS)))
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    lines = TEXT.splitlines(keepends=True)
    (corpus / "a.txt").write_text("".join(lines[:4]))
    (corpus / "b.txt").write_text("".join(lines[4:]))
    return GenPairsConfig(
        terms=(tmp_path / "terms.jsonl",),
        corpus=(str(corpus),),
        model=str(tiny_model),
        out=tmp_path / "pairs",
        quiet=True,
    )


def rows(config: GenPairsConfig) -> list[dict[str, Any]]:
    assert config.out is not None
    return pq.read_table(config.out / "pairs.parquet").to_pylist()  # type: ignore[no-any-return]


def left_behind(config: GenPairsConfig) -> list[str]:
    assert config.out is not None
    return sorted(path.name for path in config.out.parent.iterdir() if path.name not in ("terms.jsonl", "corpus"))


def test_the_folder_holds_what_the_contract_says(setting: GenPairsConfig) -> None:
    summary = gen_pairs(setting)
    assert setting.out is not None
    assert json.loads((setting.out / "pairs.json").read_text()) == summary
    base = load_tokenizer(setting.model)
    assert summary["tokenizer_sha256"] == tokenizer_fingerprint(base)
    assert summary["pairs_sha256"] == sha256_file(setting.out / "pairs.parquet")
    assert summary["counts"]["pairs"] == len(rows(setting)) == len(read_pairs(setting.out, tokenizer_fingerprint(base)))
    assert [term["token"] for term in summary["terms"]] == [term["token"] for term in TERMS]
    assert [term["sentences"] for term in summary["terms"]] == [5, 2, 1, 0]
    assert summary["terms"][0]["warning"] == "" and summary["terms"][2]["warning"] == "1 sentence in the corpus"
    assert "no sentence" in summary["terms"][3]["warning"] and "no definition" in summary["terms"][3]["warning"]
    assert summary["corpus"]["documents"] == 7 and summary["corpus"]["sentences_with_a_term"] == 7
    assert set(summary["counts"]["by_kind"]) == {
        "context-definition", "context-context", "context-substitution", "cross-tokenisation", "isolated", "template",
    }  # fmt: skip


def test_every_anchor_holds_its_token_and_no_negative_names_it(setting: GenPairsConfig) -> None:
    gen_pairs(setting)
    base = load_tokenizer(setting.model)
    plan = plan_vocabulary(base, [term["token"] for term in TERMS])
    extended = extend_tokenizer(base, plan)
    for row in rows(setting):
        assert set(encode_plain(extended, [row["anchor"]])[0]) & set(plan.ids_of(row["token"]))
        assert all(row["token"] not in text.lower() for text in row["negatives"])
        assert row["positive"] not in row["negatives"] and len(set(row["negatives"])) == len(row["negatives"])
    zorblaxin = [row for row in rows(setting) if row["token"] == "zorblaxin" and row["kind"] == "context-definition"]
    assert {row["negatives"][0] for row in zorblaxin} == {"a soft cheese with herbs"}  # its sibling


def test_held_out_names_stand_in_no_pair_of_their_token(setting: GenPairsConfig) -> None:
    summary = gen_pairs(replace(setting, hold_out=0.5))
    shown = {
        term["token"]: " ".join(
            text.lower()
            for row in rows(setting)
            if row["token"] == term["token"]
            for text in (row["anchor"], row["positive"])
        )
        for term in TERMS
    }
    held = [(t["token"], r["name"]) for t in summary["terms"] for r in t["relations"] if r["held_out"]]
    assert held and all(name.lower() not in shown[token] for token, name in held)
    cellar = next(r for r in summary["terms"][0]["relations"] if r["name"] == "cellar")
    assert not cellar["held_out"]  # a sentence of the corpus shows it
    everything = gen_pairs(replace(setting, hold_out=0.0, overwrite=True))
    assert not any(r["held_out"] for t in everything["terms"] for r in t["relations"])


def test_evidence_tells_of_the_terms_and_of_the_words_that_are_known(setting: GenPairsConfig) -> None:
    summary = gen_pairs(replace(setting, hold_out=0.5, known_sentences=2, wordnet=str(WORDNET)))
    words = read_evidence(setting.out) if setting.out else None
    assert words is not None and summary["evidence"]["wordnet"] == str(WORDNET)
    assert [word.token for word in words if not word.known] == [term["token"] for term in TERMS]
    for told, word in zip(summary["terms"], words, strict=False):
        shown = {
            kind: [r["name"] for r in told["relations"] if r["kind"] == kind and not r["held_out"]] for kind in KINDS
        }
        assert [list(word.synonyms), list(word.broader)] == list(shown.values())
        assert word.definition == told["definition"] and len(word.sentences) == told["kept"]
    known = {word.token: word for word in words if word.known}
    assert list(known) == [word.token for word in words[len(TERMS) :]]
    assert known["cheese"].definition == "a solid made of pressed curds"
    assert known["bread"].sentences[0] == "Nobody here eats zorblaxin without bread and wine."
    assert max(len(word.sentences) for word in known.values()) == 2
    counts = [
        len(known),
        sum(bool(w.sentences) for w in known.values()),
        sum(bool(w.definition) for w in known.values()),
    ]
    assert counts == [summary["evidence"][f"known_{name}"] for name in ("words", "with_sentences", "with_definition")]


def test_what_stands_in_the_evidence_is_not_held_out(setting: GenPairsConfig) -> None:
    summary = gen_pairs(replace(setting, hold_out=1.0, kinds=("isolated",)))
    cellar = next(r for r in summary["terms"][0]["relations"] if r["name"] == "cellar")
    assert not cellar["held_out"]  # no pair shows the sentence that holds it, but the evidence does


def test_known_words_can_be_left_out(setting: GenPairsConfig, capsys: pytest.CaptureFixture[str]) -> None:
    gen_pairs(replace(setting, known_sentences=0, quiet=False))
    assert "Known words" not in capsys.readouterr().err
    words = read_evidence(setting.out) if setting.out else None
    assert words and not any(word.known for word in words)
    gen_pairs(replace(setting, overwrite=True, quiet=False))
    assert re.search(
        r"Known words: \d+ \(\d+ with sentences, 0 with a definition; no\s+WordNet", capsys.readouterr().err
    )


def test_the_same_seed_gives_the_same_bytes_in_any_order_of_files(setting: GenPairsConfig, tmp_path: Path) -> None:
    first = gen_pairs(setting)
    folder = Path(setting.corpus[0])
    again = gen_pairs(replace(setting, corpus=(str(folder / "b.txt"), str(folder / "a.txt")), out=tmp_path / "again"))
    assert again["pairs_sha256"] == first["pairs_sha256"] and again["evidence"] == first["evidence"]
    other = gen_pairs(replace(setting, seed=1, out=tmp_path / "other"))
    assert other["pairs_sha256"] != first["pairs_sha256"]
    assert other["evidence"]["sha256"] != first["evidence"]["sha256"]
    assert other["counts"]["terms"] == 4


@pytest.mark.parametrize("family", ["byte-bpe", "unigram"])
def test_other_tokenizer_families(setting: GenPairsConfig, make_model: Callable[..., Path], family: str) -> None:
    for mode in ("added", "vocab"):
        summary = gen_pairs(
            replace(setting, model=str(make_model(family)), token_mode=mode, negatives=1, overwrite=True)  # type: ignore[arg-type]
        )
        assert [term["sentences"] for term in summary["terms"]] == [5, 2, 1, 0], mode


def test_kinds_can_be_chosen_and_negatives_left_out(setting: GenPairsConfig) -> None:
    gen_pairs(replace(setting, kinds=("cross-tokenisation",), negatives=0))
    assert {row["kind"] for row in rows(setting)} == {"cross-tokenisation"}
    assert all(row["negatives"] == [] for row in rows(setting))


def test_a_dry_run_tells_the_plan_and_writes_nothing(setting: GenPairsConfig, tmp_path: Path) -> None:
    summary = gen_pairs(replace(setting, dry_run=True, json=tmp_path / "corpus" / "plan.json", wordnet=str(WORDNET)))
    assert summary["known_words"] > 50 and summary["wordnet"] == str(WORDNET)
    assert [token["token"] for token in summary["tokens"]] == [term["token"] for term in TERMS]
    assert (summary["corpus_files"], summary["sentences"], summary["terms_without_sentence"]) == (2, 8, 1)
    assert summary["complete"] and summary["seconds"] >= 0 and summary["memory_mb"] >= 0
    assert left_behind(setting) == []
    assert json.loads((tmp_path / "corpus" / "plan.json").read_text()) == summary


def test_an_estimate_from_a_part_is_scaled_up(setting: GenPairsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastok.data_gen.estimate.SAMPLE", 60)
    summary = gen_pairs(replace(setting, dry_run=True))
    assert not summary["complete"]
    assert summary["sentences"] == round(2 * len(TEXT) / summary["sample_characters"])


def test_the_table_names_terms_with_little_evidence_and_those_left_out(
    setting: GenPairsConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more.txt").write_text("the\n")
    summary = gen_pairs(replace(setting, terms=(*setting.terms, tmp_path / "more.txt"), quiet=False))
    shown = capsys.readouterr().err
    assert summary["skipped"] == [{"term": "the", "reason": "is already one token of this model"}]
    assert "the: is already one token" in shown and "brimwax: no sentence in the corpus" in shown
    table = [line.split()[0] for line in shown.splitlines() if line.strip()]
    assert table.index("vexalotl") < table.index("zorblaxin")  # the weakest come first
    with pytest.raises(InputError, match="'the' is already one token"):
        gen_pairs(replace(setting, terms=(*setting.terms, tmp_path / "more.txt"), strict=True, overwrite=True))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kinds": ("context",)}, ConfigError, "'context' is no kind of pair"),
        ({"max_sentences": 0}, ConfigError, "--max-sentences"),
        ({"corpus": ("nowhere/at.txt",)}, InputError, "nowhere/at.txt"),
        ({"terms": (Path("nowhere.jsonl"),)}, InputError, "nowhere.jsonl"),
    ],
)
def test_bad_options_leave_nothing_behind(
    setting: GenPairsConfig, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gen_pairs(replace(setting, **change))
    assert left_behind(setting) == []


def test_an_existing_folder_is_kept(setting: GenPairsConfig) -> None:
    assert setting.out is not None
    setting.out.mkdir()
    (setting.out / "mine").write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        gen_pairs(setting)
    assert (setting.out / "mine").read_text() == "precious"


def test_text_that_holds_nothing(setting: GenPairsConfig, tmp_path: Path) -> None:
    empty, other, words = (tmp_path / "corpus" / name for name in ("e.txt", "o.txt", "w.txt"))
    empty.write_text("\n \n")
    other.write_text("Something else is told in this line.")
    words.write_text("zorblaxin\n")
    with pytest.raises(InputError, match="the corpus holds no text"):
        gen_pairs(replace(setting, corpus=(str(empty),)))
    with pytest.raises(InputError, match="no sentence holds any of the terms, and none has a definition"):
        gen_pairs(replace(setting, corpus=(str(other),), terms=(words,)))
    with pytest.raises(InputError, match="no pair could be made of the kinds context-context"):
        gen_pairs(replace(setting, corpus=(str(other),), kinds=("context-context",)))
    assert left_behind(setting) == []
    summary = gen_pairs(replace(setting, corpus=(str(other),)))  # definitions are enough
    assert set(summary["counts"]["by_kind"]) == {"isolated", "template"}


@pytest.fixture(scope="module")
def kitchen_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kitchen") / "pairs"
    gen_pairs(GenPairsConfig(terms=(KITCHEN / "terms.jsonl",), corpus=(str(KITCHEN / "corpus"),), out=out, quiet=True))
    return out


def test_the_sample_domain_has_enough_evidence(kitchen_pairs: Path) -> None:
    summary = json.loads((kitchen_pairs / "pairs.json").read_text())
    assert len(summary["terms"]) >= 60 and summary["skipped"] == []
    assert all(term["sentences"] >= 8 and term["warning"] == "" for term in summary["terms"])
    assert sum(r["held_out"] for term in summary["terms"] for r in term["relations"]) >= 60


def test_the_stock_loss_of_sentence_transformers_trains_on_the_file_unchanged(
    kitchen_pairs: Path, tmp_path: Path
) -> None:
    """The contract of pairs.parquet: MultipleNegativesRankingLoss on its columns anchor and positive, real model."""
    import datasets
    import torch
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import MultipleNegativesRankingLoss  # where every version from 5.1 has it

    from contrastok.models import input_embedding, load_model

    table = datasets.load_dataset(
        "parquet", data_files=str(kitchen_pairs / "pairs.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    model = load_model("minilm").train().requires_grad_(True)
    before = input_embedding(model).weight.detach().clone()
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "run"), max_steps=2, per_device_train_batch_size=4, report_to="none", use_cpu=True,
        save_strategy="no", disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=table.select_columns(["anchor", "positive"]),
        loss=MultipleNegativesRankingLoss(model),
    )  # fmt: skip
    result = trainer.train()
    assert result.global_step == 2 and 0 < result.training_loss < 10
    assert not torch.equal(input_embedding(model).weight.detach(), before)


def write_about(asked: dict[str, Any], completion: Callable[[object], Any]) -> tuple[int, Any]:
    """A language model that knows every word, and one sentence too few."""
    word = re.search(r"The word is: (\w+)", asked["messages"][1]["content"])
    assert word
    sentences = [f"Some {word[1]} in a number of {many} is here." for many in ("two", "three", "four")]
    answer = {"definition": f"a wax like {word[1][:3]}", "sentences": [*sentences, "Nothing of the kind stands here."]}
    return 200, completion(json.dumps(answer))


def test_nobody_is_asked_unless_a_server_is_named(setting: GenPairsConfig, server: Any) -> None:
    summary = gen_pairs(setting)
    assert server.asked == [] and summary["generated"] == {} and summary["counts"]["generated"] == 0


def test_a_language_model_writes_what_is_missing_and_it_is_marked(
    setting: GenPairsConfig, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path / "cache"))
    server.reply = lambda asked: write_about(asked, server.completion)
    asking = replace(setting, llm=server.url, llm_model="tiny", llm_sentences=3, hold_out=1.0)
    summary = gen_pairs(asking)
    terms = {term["token"]: term for term in summary["terms"]}
    assert len(server.asked) == 3  # zorblaxin lacks nothing
    assert {token: term["generated"] for token, term in terms.items()} == {
        "zorblaxin": 0, "quibnar": 3, "vexalotl": 3, "brimwax": 3,
    }  # fmt: skip
    assert terms["brimwax"]["definition"] == "a wax like bri" and terms["brimwax"]["definition_generated"]
    assert "no sentence in the corpus; 3 that a language model wrote" in terms["brimwax"]["warning"]
    assert (summary["generated"]["sentences"], summary["generated"]["definitions"]) == (9, 1)
    assert summary["generated"]["refused"] == {"without the term": 3}
    prompts = " ".join(asked["messages"][1]["content"] for asked in server.asked)
    assert "hardwax" not in prompts and "stew pan" not in prompts  # held out
    made = [row for row in rows(asking) if row["source"] == "generated by tiny"]
    assert len(made) == summary["counts"]["generated"] > 0
    for row in rows(asking):
        by_model = "number of" in row["anchor"] + row["positive"] or "a wax like" in row["positive"]
        assert not by_model or row["source"] == "generated by tiny"
    assert {row["token"] for row in made} == {"quibnar", "vexalotl", "brimwax"}
    words = {word.token: word for word in read_evidence(setting.out) or () if not word.known}  # type: ignore[arg-type]
    assert len(words["brimwax"].sentences) == 3 and words["brimwax"].per_million == 0


def test_a_server_that_fails_half_way_costs_only_what_is_left(
    setting: GenPairsConfig, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path / "cache"))
    server.reply = lambda asked: write_about(asked, server.completion) if len(server.asked) == 1 else (500, "")
    asking = replace(setting, llm=server.url, llm_model="tiny", llm_retries=0, llm_parallel=1)
    with pytest.raises(ModelError, match="give the same command again") as told:
        gen_pairs(asking)
    assert setting.out is not None and not setting.out.exists()
    kept = setting.out.with_name(".pairs.shards")
    assert list(kept.iterdir()) and f"what was read is kept in {kept}" in told.value.hint
    server.asked.clear()
    server.reply = lambda asked: write_about(asked, server.completion)
    with monkeypatch.context() as patch:
        patch.setattr("contrastok.data_gen.engines.mine_shard", None)  # nothing is read again
        resumed = gen_pairs(asking)
    assert len(server.asked) == 2  # of three
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path / "another"))
    whole = gen_pairs(replace(asking, overwrite=True))
    assert whole == resumed and left_behind(setting) == ["another", "cache", "pairs"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"llm_model": "tiny"}, "--llm-model is for --llm"),
        ({"llm": "http://localhost/v1"}, "needs --llm-model"),
        ({"llm": "localhost:8000", "llm_model": "m"}, "must be a URL"),
        ({"llm": "http://[::1", "llm_model": "m"}, "must be a URL"),
        ({"llm": "http://me:key@host/v1", "llm_model": "m"}, "CONTRASTOK_LLM_KEY"),
        ({"llm": "http://h/v1", "llm_model": "m", "llm_rate": -1.0, "llm_timeout": 0.0}, "2 problems"),
        ({"llm": "http://h/v1", "llm_model": "m", "llm_rate": float("nan")}, "--llm-rate must"),
        ({"num_proc": 0, "engine": "rai"}, "did you mean 'ray'"),
        ({"ray_address": "auto"}, "--ray-address is for --engine ray"),
    ],
)
def test_options_that_make_no_sense_are_refused(setting: GenPairsConfig, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        gen_pairs(replace(setting, **options))


def test_a_hundred_thousand_terms_are_read_and_found_in_seconds(setting: GenPairsConfig, tmp_path: Path) -> None:
    """Anything that looks at every term for every term would take hours; of planning see test_vocabulary.py."""
    tokens = [f"zor{''.join(chr(97 + number // 26**at % 26) for at in range(4))}" for number in range(100_000)]
    (tmp_path / "many.txt").write_text("\n".join(tokens) + "\n")
    (tmp_path / "many").mkdir()
    lines = [f"The {token} on the table is old.\n" for token in tokens[::500]]
    (tmp_path / "many" / "a.txt").write_text("".join(lines))
    job = Job((), Fold(load_tokenizer(setting.model)), MiningOptions(seed=0))
    start = time.process_time()
    job = replace(job, terms=tuple(term.token for term in read_terms([tmp_path / "many.txt"])))
    found = mine(
        read_corpus([str(tmp_path / "many")]),
        job.terms,
        job.matcher(),
        lambda texts, _: [True] * len(texts),
        job.options,
    )
    assert time.process_time() - start < 30  # some 3 seconds
    assert job.terms == tuple(tokens) and len(found.evidence) == len(tokens)
    assert [term for term in tokens if found.evidence[term].found] == tokens[::500]
