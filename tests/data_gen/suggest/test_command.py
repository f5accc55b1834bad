from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contrastok.cli import main
from contrastok.config import GenPairsConfig
from contrastok.data_gen.pipeline import gen_pairs
from contrastok.data_gen.suggest.command import suggest
from contrastok.errors import ConfigError, InputError, OutputError
from contrastok.guidance_config import SuggestConfig
from contrastok.models import load_tokenizer
from contrastok.vocabulary import encode_plain, extend_tokenizer, plan_vocabulary

KITCHEN = Path(__file__).parents[3] / "examples" / "kitchen"
TEXT = """We drink żubrówka in the cellar and smájök with the cheese.
The zorblaxin is a cheese, and żubrówka is no cheese at all.
There Zorblaxin and हल्लौमी stand on the table with żubrówka.
A cook likes zorblaxin with the bread and zorblaxins with the soup.
They grill हल्लौमी and the zorblaxin in a pan, or smájök with żubrówka.
"""
WORDS = ["żubrówka", "zorblaxin", "हल्लौमी", "smájök"]


@pytest.fixture
def setting(tmp_path: Path, any_tokenizer: Any) -> SuggestConfig:
    any_tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "corpus").mkdir()
    for shard, line in enumerate(TEXT.splitlines()):
        (tmp_path / "corpus" / f"{shard}.txt").write_text(f"{line}\n" * 2)
    (tmp_path / "glossary.jsonl").write_text(
        json.dumps({"token": "Zorblaxin", "definition": "a sour cheese", "broader": ["cheese"]}) + "\n"
    )
    return SuggestConfig(
        corpus=(str(tmp_path / "corpus"),), model=str(tmp_path / "model"), glossary=(tmp_path / "glossary.jsonl",),
        out=tmp_path / "terms.jsonl", plot=tmp_path / "saved.svg", min_count=4, quiet=True,
    )  # fmt: skip


def test_words_are_found_in_any_script_and_tokenizer_and_saved_tokens_are_those_of_the_extended_one(
    setting: SuggestConfig,
) -> None:
    summary = suggest(setting)
    assert setting.out is not None and setting.plot is not None
    lines = [json.loads(line) for line in setting.out.read_text().splitlines()]
    assert lines == summary["suggestions"]
    assert sorted(line["token"] for line in lines) == sorted(WORDS)
    told = {line["token"]: line for line in lines}
    assert told["zorblaxin"]["definition"] == "a sour cheese" and told["zorblaxin"]["broader"] == ["cheese"]
    assert told["zorblaxin"]["count"] == 8 and told["smájök"]["definition"] == ""

    base = load_tokenizer(setting.model)
    plan = plan_vocabulary(base, [line["token"] for line in lines])
    assert plan.skipped == ()
    lengths = [
        sum(map(len, encode_plain(tokenizer, TEXT.splitlines() * 2)))
        for tokenizer in (base, extend_tokenizer(base, plan))
    ]
    unknown = base.unk_token_id in encode_plain(base, [" ".join(WORDS)])[0]
    if not unknown:  # a word that cannot be spelled saves no token, and counts as one
        assert summary["saved"]["tokens"] == lengths[0] - lengths[1]
        assert summary["saved"]["share"] == pytest.approx(1 - lengths[1] / lengths[0], rel=0.05)
    assert setting.plot.read_text().startswith("<svg") and "words added" in setting.plot.read_text()


def test_the_same_command_writes_the_same_bytes(setting: SuggestConfig) -> None:
    first, second = (suggest(replace(setting, rank="merges", overwrite=True)) for _ in range(2))
    assert first == second
    assert setting.out is not None
    written = setting.out.read_bytes()
    suggest(replace(setting, rank="merges", overwrite=True))
    assert setting.out.read_bytes() == written


def test_merges_rank_words_by_when_continued_bpe_makes_them_whole(setting: SuggestConfig) -> None:
    found = suggest(replace(setting, rank="merges", out=None, plot=None))["suggestions"]
    merges = [line["merge"] for line in found]
    assert merges == sorted(merges) and merges[0] >= 1 and len(set(merges)) == len(merges)
    assert sorted(line["token"] for line in found) == sorted(
        line["token"]
        for line in suggest(replace(setting, out=None, plot=None))["suggestions"]
        if len(line["pieces"]) > 1
    )
    frequent = next(line for line in found if line["token"] == "zorblaxin")
    assert frequent["merge"] >= len(frequent["pieces"]) - 1  # so many merges it takes at least


def test_the_limit_takes_the_most_useful(setting: SuggestConfig) -> None:
    every = suggest(replace(setting, out=None, plot=None))["suggestions"]
    two = suggest(replace(setting, out=None, plot=None, limit=2))["suggestions"]
    assert two == every[:2]
    usage = [line["saved"] * line["spread"] for line in every]
    assert usage == sorted(usage, reverse=True)


def test_the_terms_file_goes_into_gen_pairs(setting: SuggestConfig) -> None:
    suggest(setting)
    assert setting.out is not None
    options: dict[str, Any] = {
        "model": setting.model,
        "min_words": 2,
        "negatives": 0,
        "known_sentences": 0,
        "quiet": True,
    }
    out = setting.out.parent / "pairs"
    pairs = gen_pairs(GenPairsConfig(terms=(setting.out,), corpus=setting.corpus, out=out, **options))
    assert pairs["skipped"] == [] and sorted(term["token"] for term in pairs["terms"]) == sorted(WORDS)
    assert all(term["sentences"] >= 2 for term in pairs["terms"])


def test_a_corpus_without_anything_to_suggest(setting: SuggestConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert setting.out is not None and setting.plot is not None
    json_file = setting.out.with_name("summary.json")
    with pytest.raises(InputError, match="no word is worth a token") as told:  # whoever reads the file needs terms
        suggest(replace(setting, min_count=1000, quiet=False, json=json_file))
    assert "--min-count" in told.value.hint and "0 of " in capsys.readouterr().err
    assert not setting.out.exists() and not setting.plot.exists() and not json_file.exists()
    suggest(replace(setting, out=None, plot=None, min_count=1000, quiet=False))
    assert "no word is worth a token" in capsys.readouterr().err
    (setting.out.parent / "signs.txt").write_text("... !!! ...\n")
    with pytest.raises(InputError, match="holds no word"):
        suggest(replace(setting, corpus=(str(setting.out.parent / "signs.txt"),), overwrite=True))


def test_what_cannot_be_written_is_told_before_anything_is_read(setting: SuggestConfig) -> None:
    assert setting.out is not None
    setting.out.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        suggest(setting)
    assert setting.out.read_text() == "mine"
    with pytest.raises(ConfigError) as error:
        suggest(replace(setting, out=Path("terms.txt"), plot=Path("plot.pdf"), limit=0, corpus=()))
    for part in (".jsonl", ".svg", "--limit", "--corpus"):
        assert part in str(error.value)


def test_the_command(setting: SuggestConfig, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--corpus", *setting.corpus, "--model", setting.model, "--min-count", "4", "--json", "-"]
    assert main(["suggest", *options]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["words"]["suggested"] == 4 and "żubrówka" in told.err
    assert main(["suggest", *options, "--dry-run", "--quiet"]) == 0
    dry = json.loads(capsys.readouterr().out)
    assert dry["corpus_files"] == 5 and dry["sample_characters"] > 500 and dry["dry_run"] is True


def test_every_word_of_the_sample_domain_is_found() -> None:
    terms = [json.loads(line)["token"] for line in (KITCHEN / "terms.jsonl").read_text().splitlines()]
    summary = suggest(SuggestConfig(corpus=(str(KITCHEN / "corpus"),), quiet=True))
    assert {line["token"].lower() for line in summary["suggestions"]} >= set(terms)
    assert summary["words"]["suggested"] < 1.3 * len(terms)
