from __future__ import annotations

import json
from pathlib import Path

import pytest

from contrastok.checkpoint import load_checkpoint
from contrastok.data_gen.fold import Fold
from contrastok.eval.questions import KINDS, SIBLING, ask, is_hard


def _asked(checkpoint_folder: Path, glossary: tuple[Path, ...] = (), shown: dict[str, tuple[str, ...]] | None = None):  # type: ignore[no-untyped-def]
    checkpoint = load_checkpoint(checkpoint_folder)
    return ask(checkpoint, glossary, shown or {}, Fold(checkpoint.base_tokenizer))


def test_the_manifest_asks_for_what_was_held_out_and_is_shown_nowhere(tiny_checkpoint: Path) -> None:
    questions, names = _asked(
        tiny_checkpoint, shown={"halloumi": ("A piece of Cheese here", "cheesecake and salty food")}
    )
    halloumi, kimchi = questions[:2]
    assert {a.name: a.counts for a in halloumi.answers} == {
        "cheese": False, "halloumi of old": True, "salt": True, "oil": False
    }  # fmt: skip
    assert {a.name for a in kimchi.answers if a.counts} == {"bread", "kimchiq of old", "salt"}
    assert not names.heads and {"halloumi", "cheese", "salt", "oil"} <= set(names.names)


def test_a_glossary_is_asked_for_all_it_says_and_leaks_are_found(tiny_checkpoint: Path, tmp_path: Path) -> None:
    entries = [
        {
            "token": "Halloumi",
            "synonyms": ["squeaky cheese", "salt"],
            "broader": ["food"],
            "related": ["SALT", "grill"],
        },
        {"token": "feta", "broader": ["Food"]},
        {"token": "brie", "broader": ["dish"], "synonyms": ["brie de Meaux"]},
    ]
    file = tmp_path / "glossary.jsonl"
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    questions, names = _asked(tiny_checkpoint, (file,), {"halloumi": ("Food from the grill.",)})
    found = {a.name: (a.kind, a.counts) for a in questions[0].answers}
    assert found == {
        "squeaky cheese": ("synonym", True),
        "salt": ("synonym", True),  # once, whatever else it is related as
        "food": ("broader", False),
        "grill": ("related", False),
        "feta": (SIBLING, True),
    }
    assert questions[1].answers == () and questions[1].token == "kimchiq"
    assert names.heads == {"halloumi", "feta", "brie"}
    assert set(names.names) >= {"brie de meaux", "kimchiq", "food", "dish"}


@pytest.mark.parametrize(
    ("token", "name", "hard"),
    [
        ("nephroblastoma", "Wilms tumor", True),
        ("nephroblastoma", "adult Nephrobl-something", False),
        ("nephroblastoma", "nephrotic syndrome", False),  # nephro
        ("nephroblastoma", "neural tumor", True),
        ("brie", "brief", False),
        ("brie", "soft cheese", True),
        ("cardiomyopathy", "heart-cardiomuscle", False),
    ],
)
def test_hard_means_not_found_by_spelling(token: str, name: str, hard: bool, any_tokenizer) -> None:  # type: ignore[no-untyped-def]
    assert is_hard(token, name, Fold(any_tokenizer)) is hard


def test_kinds_are_of_the_answers_they_name(tiny_checkpoint: Path) -> None:
    questions, _ = _asked(tiny_checkpoint)
    chosen = {kind: [a.name for a in questions[0].answers if wanted(a)] for kind, wanted in KINDS.items()}
    assert chosen == {
        "all": ["cheese", "halloumi of old", "salt", "oil"],
        "synonym": ["cheese", "halloumi of old"],
        "hard synonym": ["cheese"],
        "broader": ["salt"],
        "broader or sibling": ["salt"],
        "related": ["oil"],
    }
