from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from contrastok.checkpoint import MANIFEST_SHAPE
from contrastok.config import TrainConfig
from contrastok.errors import InputError
from contrastok.json_file import check_shape
from contrastok.loop import relative_move
from contrastok.map_rows import MapSettings
from contrastok.story import _left_at, _making, plan_table
from contrastok.trainer import train
from tests.test_any_bytes import CHECKPOINT


def test_a_term_without_a_pair_is_told_with_where_its_row_stays(
    make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    terms = tmp_path / "terms.txt"
    terms.write_text("zorblaxin\nflurbequil\n")
    warnings = train(make_config(terms=(terms,), epochs=1, init="charlen_mean"))["warnings"]
    assert "1 terms have no pair, so their rows stay as charlen_mean made them: flurbequil" in warnings


def _guide(steps: int) -> Any:
    return SimpleNamespace(calibration=SimpleNamespace(settings=MapSettings(steps=steps)))


@pytest.mark.parametrize(
    ("guide", "said"), [(_guide(20), "where the word stage put them"), (_guide(0), "as predictor made them")]
)
def test_with_a_predictor_rows_stay_where_the_word_stage_put_them(guide: Any, said: str) -> None:
    result: Any = SimpleNamespace(start=SimpleNamespace(init="predictor", guide=guide))
    assert _left_at(result) == said


def test_the_plan_names_long_terms_shortly() -> None:
    plan = SimpleNamespace(
        terms=("t" * 300,), family="", mode="", skipped=[SimpleNamespace(term="y" * 300, reason="is left out")],
        ids_of=lambda term: (7,),
    )  # fmt: skip
    words: Any = SimpleNamespace(plan=plan, gate=SimpleNamespace(checks=()))
    pairs: Any = ()
    skipped, token = plan_table(words, pairs, tokens=True).columns[2].cells
    assert skipped == f"'{'y' * 40}… is left out" and token == f"'{'t' * 40}… id 7"


def test_relative_move() -> None:
    rows = torch.randn(50, 64)
    assert relative_move(rows * 1.5, rows).mean() == pytest.approx(0.5)
    zeros = torch.zeros_like(rows)
    assert relative_move(rows, zeros).tolist() == pytest.approx([1.0] * len(rows))
    assert relative_move(zeros, zeros).tolist() == [0.0] * len(rows)


@pytest.mark.parametrize(
    ("about", "told"), [({"options": {"seed": 2}}, {"gen_pairs": {"seed": 2}}), ({}, {}), ({"options": "--seed 2"}, {})]
)
def test_how_pairs_were_made_is_told_where_it_is_known(about: dict[str, Any], told: dict[str, Any]) -> None:
    pairs: Any = SimpleNamespace(about=about)
    assert _making(pairs) == told


def test_a_manifest_may_tell_how_the_pairs_were_made() -> None:
    """Manifests of older versions, and of pairs that came without it, do not."""
    for more in ({}, {"gen_pairs": {"seed": 2}}):
        check_shape(CHECKPOINT | {"training": CHECKPOINT["training"] | more}, MANIFEST_SHAPE, "a.json", "")
    with pytest.raises(InputError, match=r"training\.gen_pairs: must be object"):
        check_shape(CHECKPOINT | {"training": CHECKPOINT["training"] | {"gen_pairs": 1}}, MANIFEST_SHAPE, "a.json", "")
