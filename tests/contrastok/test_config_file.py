from __future__ import annotations

from pathlib import Path

import pytest

from contrastok.cli import main, parse
from contrastok.config import GenPairsConfig, ReportConfig, TrainConfig
from contrastok.config_file import from_toml
from contrastok.errors import ConfigError, InputError
from contrastok.eval_config import NoHarmConfig, RetrievalConfig


def test_one_toml_serves_every_command(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'model = "some/model"\nterms = "terms.jsonl"\nseed = 7\n'
        '[gen-pairs]\ncorpus = ["a", "b"]\nmax-sentences = 5\nhold_out = 1\n'
        "[train]\nlearning_rate = 0.5\nseed = 8\n"
    )
    gen = from_toml(GenPairsConfig, file)
    assert (gen.model, gen.terms, gen.corpus, gen.seed) == ("some/model", (Path("terms.jsonl"),), ("a", "b"), 7)
    assert (gen.max_sentences, gen.hold_out) == (5, 1.0)
    train = from_toml(TrainConfig, file)
    assert (train.seed, train.learning_rate, train.terms) == (8, 0.5, (Path("terms.jsonl"),))


def test_tables_of_a_group_and_of_its_commands(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'seed = 7\nmodel = "base"\n[train]\nepochs = 2\n[eval]\nmodel = "model/"\n'
        '[eval.retrieval]\nlimit = 5\nonly-new-tokens = false\n[eval.no-harm]\nseed = 9\ntexts = ["a", "b"]\n'
    )
    retrieval = from_toml(RetrievalConfig, file)
    assert (retrieval.seed, retrieval.model, retrieval.limit) == (7, Path("model/"), 5)
    assert not retrieval.only_new_tokens
    assert from_toml(NoHarmConfig, file).seed == 9 and from_toml(NoHarmConfig, file).texts == ("a", "b")
    assert from_toml(TrainConfig, file).model == "base"
    config = parse(["eval", "retrieval", "--config", str(file), "--limit", "6"])
    assert isinstance(config, RetrievalConfig) and (config.limit, config.seed) == (6, 7)


def test_mistakes_in_the_tables_of_a_group(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        "[eval]\nmodle = 1\n[eval.retrieval]\nlimmit = 3\n[eval.retreival]\nlimit = 3\n[retrieval]\nlimit = 1\n"
    )
    with pytest.raises(ConfigError) as error:
        from_toml(RetrievalConfig, file)
    for part in ("[eval] modle", "'model'", "[eval.retrieval] limmit", "'limit'", "[eval.retreival] is no command",
                 "did you mean 'eval.retrieval'", "[retrieval] is no command"):  # fmt: skip
        assert part in str(error.value)


def test_flags_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[train]\nepochs = 3\nbatch_size = 16\n")
    config = parse(["train", "--config", str(file), "--epochs", "5"])
    assert isinstance(config, TrainConfig) and (config.epochs, config.batch_size) == (5, 16)
    assert parse(["train", f"--config={file}"]).epochs == 3  # type: ignore[attr-defined]


def test_toml_mistakes_are_all_told_with_the_closest_name(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('sead = 1\n[train]\nepoch = 3\nbatch_size = "many"\nprecision = "fp8"\n[trian]\nepochs = 1\n')
    with pytest.raises(ConfigError) as error:
        from_toml(TrainConfig, file)
    text = str(error.value)
    for part in (
        "'seed'",
        "'epochs'",
        "batch-size = 'many': expected int",
        "expected one of 'fp32', 'bf16'",
        "'train'",
    ):
        assert part in text
    assert text.count(str(file)) == 5


@pytest.mark.parametrize("content", [None, b"not = = toml", b"\xff\xfe", b"a = " + b"[" * 5000])
def test_unusable_toml(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "run.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError):
        from_toml(ReportConfig, file)
    assert main(["report", "--config", str(file)]) == 2


def test_toml_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.toml").write_text("seed = 1")
    with pytest.raises(InputError, match="cannot be read \\(Is a directory"):
        from_toml(ReportConfig, tmp_path)
    with pytest.raises(InputError, match="cannot be read \\(Not a directory"):
        from_toml(ReportConfig, tmp_path / "run.toml" / "run.toml")

    def refused(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refused)  # root may read everything
    with pytest.raises(InputError, match="that you may read") as error:
        from_toml(ReportConfig, tmp_path / "run.toml")
    assert "run.toml: cannot be read (Permission denied)" in str(error.value)
