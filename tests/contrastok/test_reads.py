from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from contrastok.config import TrainConfig
from contrastok.config_file import from_toml
from contrastok.errors import ConfigError
from contrastok.eval.compare_methods import every_method
from contrastok.eval.recovery import train_config
from contrastok.eval_config import RecoveryConfig
from contrastok.reads import REGISTRIES, unread, without_unread
from contrastok.trainer import train

PLAIN = TrainConfig(terms=(Path("t"),), pairs=Path("p"), out=Path("o"))
GIVEN: dict[str, Any] = {
    "init_vectors": Path("v.vec"),
    "init_model": "minilm",
    "init_dimension": 3,
    "init_hypernet": Path("net"),
    "evidence_sentences": 2,
    "mix": "free",
    "mix_rows": 5,
    "rank": 3,
    "distill_layer": 1,
    "hard_negative_weight": 2.0,
}
SPACE = {"ramen", "wechsel", "ofa", "focus", "similar_mean", "ridge_map", "procrustes_map", "affine_map"}
READERS: dict[str, dict[str, set[Any]]] = {
    "init_vectors": {"init": SPACE},
    "init_model": {"init": {"sava", "omp"}},
    "init_dimension": {"init": {"ofa"}},
    "init_hypernet": {"init": {"hypernet"}},
    "evidence_sentences": {"init": {"auto", "predictor", "alacarte", "detok_map", "definition_map"}},
    "mix": {"trainable": {"mixing"}},
    "mix_rows": {"trainable": {"mixing"}},
    "rank": {"trainable": {"row_lora", "full_lora", "adapter"}, "lora": {True}, "two_stage": {True}},
    "distill_layer": {"objective": {"token_distill"}},
    "hard_negative_weight": {"objective": {"supervised_simcse"}},
}


@pytest.mark.parametrize("name", GIVEN)
def test_an_option_goes_with_what_reads_it_alone(name: str) -> None:
    values: dict[str, list[Any]] = {option: [*registry] for option, registry in REGISTRIES.items()}
    values |= {"init": ["auto", *values["init"]], "lora": [False, True], "two_stage": [False, True]}
    for option in values:
        for value in values[option]:
            config = replace(PLAIN, **{"init": "zero", option: value, name: GIVEN[name]})
            read = value in READERS[name].get(option, ())
            assert unread(config) == ([] if read else [name]), (option, value)


def test_every_option_that_is_not_read_is_told(make_config: Callable[..., TrainConfig]) -> None:
    config = make_config(init="zero", **GIVEN)
    told = config.problems()
    assert len(told) == len(GIVEN)
    assert any(
        sentence.startswith("--init-vectors is read by --init ") and sentence.endswith(" alone, not by --init zero")
        for sentence in told
    )
    rank = "--rank is read by --trainable row_lora, adapter, full_lora or --lora or --two-stage alone, "
    assert any(sentence.startswith(rank) for sentence in told), told
    with pytest.raises(ConfigError, match="--mix-rows is read by --trainable mixing alone, not by --trainable rows"):
        train(config)


def test_who_forgets_the_initialiser_is_told(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--init-vectors is read by .*focus.* alone, not by --init auto"):
        train(make_config(init_vectors=tmp_path / "v.vec"))


def test_a_misspelled_method_is_the_only_problem() -> None:
    told = replace(PLAIN, init="focsu", init_vectors=Path("v.vec")).problems()
    assert len(told) == 1 and "did you mean 'focus'" in told[0]


def test_methods_that_share_options_get_those_that_they_read(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[train]\ninit-model = "minilm"\ninit-vectors = "v.vec"\nrank = 3\nepochs = 7\n')
    shared = replace(from_toml(TrainConfig, file), terms=PLAIN.terms, pairs=PLAIN.pairs, out=PLAIN.out)
    assert len(unread(shared)) == 3
    for method in every_method().values():
        config = without_unread(replace(shared, **method.options))
        assert not config.problems(), method.name
        kept = {
            name for name in ("init_model", "init_vectors", "rank") if getattr(config, name) == getattr(shared, name)
        }
        read = {name for name in kept if any(getattr(config, o) in values for o, values in READERS[name].items())}
        assert kept == read and config.epochs == 7, method.name
        hidden = train_config(RecoveryConfig(config=file), tmp_path, **method.options)
        assert not hidden.problems() and hidden.epochs == 7, method.name
    assert without_unread(replace(shared, init="sava")).init_model == "minilm"


def test_what_methods_read_are_options_of_train() -> None:
    known = {field.name for field in fields(TrainConfig)}
    assert known.issuperset(READERS) and set(READERS) == set(GIVEN)
    assert {read for registry in REGISTRIES.values() for method in registry.values() for read in method.reads} == set(
        READERS
    )
