"""Bad input: a clear error, exit code 2, and no output left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import KITCHEN, Outcome, Run

TERMS = KITCHEN / "terms.jsonl"
CORPUS = KITCHEN / "corpus"


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ('{"token": "halloumi"}\n{"token": "brie"', ["terms.jsonl:2", "JSON"]),
        ('{"token": "halloumi"}\n\n{"token": "  "}\n', ["terms.jsonl:3", "token"]),
        ('{"word": "halloumi"}\n', ["terms.jsonl:1", "'token'", "word"]),
        ('{"token": "halloumi", "synonyms": 3}\n', ["terms.jsonl:1", "synonyms"]),
        (b'{"token": "caf\xe9"}\n', ["terms.jsonl:1", "UTF-8"]),
        ("", ["terms.jsonl", "no terms"]),
    ],
)
def test_broken_terms(here: Run, tmp_path: Path, content: bytes | str, parts: list[str]) -> None:
    terms = write(tmp_path / "terms.jsonl", content)
    done = here("gen-pairs", "--terms", terms, "--corpus", CORPUS, "--out", tmp_path / "out", code=2)
    for part in parts:
        assert part in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["terms.jsonl"]


def test_missing_files_name_the_closest(here: Run, tmp_path: Path) -> None:
    done = here("gen-pairs", "--terms", KITCHEN / "term.jsonl", "--corpus", CORPUS, "--out", tmp_path / "out", code=2)
    assert "terms.jsonl" in done.stderr
    done = here("gen-pairs", "--terms", TERMS, "--corpus", KITCHEN / "corpsu", "--out", tmp_path / "out", code=2)
    assert "corpus" in done.stderr
    done = here("train", "--terms", TERMS, "--pairs", tmp_path / "no", "--out", tmp_path / "out", code=2)
    assert "no such file" in done.stderr
    done = here("report", "--model", tmp_path, "--out", tmp_path / "out.html", code=2)
    assert "no checkpoint" in done.stderr
    assert "--model" not in done.stderr  # folders are named without it, too
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model").mkdir()
    done = here("report", tmp_path / "modle", code=2)
    assert f"no such file or folder\n  -> did you mean {str(tmp_path / 'model')!r}" in done.stderr


def test_what_cannot_be_read_comes_with_advice(here: Run, tmp_path: Path) -> None:
    link, broken = tmp_path / "link.txt", write(tmp_path / "broken.parquet", "x")
    link.symlink_to("nowhere")
    for corpus, advice in (
        (link, "is a link to nothing\n  -> it points to 'nowhere'"),
        (broken, "\n  -> see that it is whole"),
        (tmp_path / "zzz.txt", f"no such file or folder\n  -> check the name; it was looked for in {str(tmp_path)!r}"),
        (tmp_path / "zzz" / "a.txt", "no such file or folder\n  -> check the path; there is no folder"),
    ):
        assert advice in here("suggest", "--corpus", corpus, code=2).stderr
    done = here("gen-pairs", "--terms", "zzz.txt", "--corpus", CORPUS, "--out", tmp_path / "out", code=2)
    assert "-> check the name" in done.stderr


@pytest.mark.parametrize("content", ["", "\n\n  \n"])
def test_empty_corpus(here: Run, tmp_path: Path, content: str) -> None:
    corpus = write(tmp_path / "corpus.txt", content)
    for command in (["gen-pairs", "--terms", TERMS, "--out", tmp_path / "out"], ["suggest"]):
        done = here(*command, "--corpus", corpus, code=2)
        assert "corpus" in done.stderr and "--text-field" not in done.stderr  # a .txt has no fields
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus.txt"]
    rows = write(tmp_path / "rows.jsonl", '{"text": ""}')
    assert "--text-field" in here("suggest", "--corpus", rows, code=2).stderr


def test_corpus_in_the_wrong_encoding(here: Run, tmp_path: Path) -> None:
    corpus = write(tmp_path / "corpus.txt", b"The halloumi is fine.\nThe caf\xe9 has halloumi.\n")
    done = here("gen-pairs", "--terms", TERMS, "--corpus", corpus, "--out", tmp_path / "out", code=2)
    assert "corpus.txt:2" in done.stderr and "UTF-8" in done.stderr and "iconv" in done.stderr
    assert not (tmp_path / "out").exists()


def test_pairs_of_another_models_tokenizer(here: Run, kitchen: Outcome, tiny_model: Path, tmp_path: Path) -> None:
    done = here(
        "train",
        "--terms",
        TERMS,
        "--pairs",
        kitchen.folder / "pairs",
        "--model",
        tiny_model,
        "--out",
        tmp_path / "out",
        code=2,
    )
    assert "'minilm'" in done.stderr and "another" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_slow_tokenizer(here: Run, tmp_path: Path) -> None:
    from transformers import CanineConfig, CanineModel, CanineTokenizer

    config = CanineConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    CanineModel(config).save_pretrained(tmp_path / "canine")
    CanineTokenizer().save_pretrained(tmp_path / "canine")
    done = here(
        "gen-pairs",
        "--terms",
        TERMS,
        "--corpus",
        CORPUS,
        "--model",
        tmp_path / "canine",
        "--out",
        tmp_path / "out",
        code=2,
    )
    assert "slow" in done.stderr and not (tmp_path / "out").exists()


def test_existing_outputs_need_overwrite(here: Run, kitchen: Outcome, tmp_path: Path) -> None:
    kept = write(tmp_path / "kept.html", "precious")
    for command in (
        ["gen-pairs", "--terms", TERMS, "--corpus", CORPUS],
        ["train", "--terms", TERMS, "--pairs", kitchen.folder / "pairs"],
        ["report", "--model", kitchen.model],
        ["apply", kitchen.model / "new_rows.safetensors"],
    ):
        done = here(*command, "--out", kept, code=2)
        assert "--overwrite" in done.stderr and kept.read_text() == "precious"


def test_every_missing_option_in_one_message(contrastok: Run) -> None:
    done = contrastok("gen-pairs", "--max-sentences", "0", code=2)
    for part in ("--terms", "--corpus", "--out", "--max-sentences"):
        assert part in done.stderr


def test_typos_get_a_hint(contrastok: Run) -> None:
    assert "--temperature" in contrastok("train", "--temprature", "1", code=2).stderr
    assert "train" in contrastok("trian", code=2).stderr


def test_an_unknown_model_folder(contrastok: Run, tmp_path: Path) -> None:
    done = contrastok(
        "gen-pairs",
        "--terms",
        TERMS,
        "--corpus",
        CORPUS,
        "--model",
        tmp_path / "nowhere",
        "--out",
        tmp_path / "out",
        code=2,
    )
    assert "no such model folder" in done.stderr
