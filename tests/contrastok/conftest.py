from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contrastok.config import TrainConfig
from contrastok.files import sha256_file
from contrastok.models import load_tokenizer, tokenizer_fingerprint
from contrastok.trainer import train

GLOSSARY = {
    "zorblaxin": ("a hard cheese from the hills", ["hill cheese"], ["cheese"]),
    "brimwax": ("a long knife for bread", ["bread knife"], ["tool"]),
    "quib vexalotl": ("a soup of beans and pepper", ["bean soup"], ["soup"]),
}
FRAMES = ["we bought {} at the market", "the cook likes {}, she says", "{} is on the table", "there was no {} left."]
SCHEMA = pa.schema(
    [("token", pa.string()), ("anchor", pa.string()), ("positive", pa.string()), ("negatives", pa.list_(pa.string())),
     ("kind", pa.string()), ("source", pa.string())]
)  # fmt: skip


def write_pairs(folder: Path, rows: list[tuple[Any, ...]], model: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    columns = {name: [row[i] for row in rows] for i, name in enumerate(SCHEMA.names)}
    pq.write_table(pa.table(columns, schema=SCHEMA), folder / "pairs.parquet")
    about = {
        "format": 1,
        "model": model,
        "tokenizer_sha256": tokenizer_fingerprint(load_tokenizer(model)),
        "pairs_sha256": sha256_file(folder / "pairs.parquet"),
        "terms": [
            {"token": t, "definition": d, "sentences": 4, "pairs": {}, "negatives": 2, "relations": [], "examples": []}
            for t, (d, _, _) in GLOSSARY.items()
        ],
    }
    (folder / "pairs.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="session")
def glossary_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("terms") / "terms.jsonl"
    lines = [
        json.dumps({"token": t, "definition": d, "synonyms": s, "broader": b}) for t, (d, s, b) in GLOSSARY.items()
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="session")
def make_config(
    tmp_path_factory: pytest.TempPathFactory, glossary_file: Path, make_model: Callable[..., Path]
) -> Callable[..., TrainConfig]:
    """A function (family="wordpiece", padding=0, **options) -> TrainConfig on a tiny model and tiny pairs."""
    models: dict[Any, tuple[Path, Path]] = {}

    def make(family: str = "wordpiece", padding: int = 0, **options: Any) -> TrainConfig:
        if (family, padding) not in models:
            model = make_model(family, padding)
            rows = []
            for token, (definition, synonyms, _) in GLOSSARY.items():
                others = [d for t, (d, _, _) in GLOSSARY.items() if t != token]
                for frame in FRAMES:
                    anchor = frame.format(token)
                    rows.append((token, anchor, definition, others, "context-definition", "test"))
                    rows.append((token, anchor, anchor, others[:1], "cross-tokenisation", "test"))
                    rows.append((token, anchor, frame.format(synonyms[0]), [], "context-substitution", "test"))
            models[family, padding] = model, write_pairs(tmp_path_factory.mktemp("pairs"), rows, str(model))
        model, pairs = models[family, padding]
        defaults: dict[str, Any] = {
            "terms": (glossary_file,), "pairs": pairs, "model": str(model), "quiet": True, "device": "cpu",
            "batch_size": 4, "epochs": 3, "learning_rate": 0.05, "out": tmp_path_factory.mktemp("run") / "model",
        }  # fmt: skip
        return TrainConfig(**{**defaults, **options})

    return make


@pytest.fixture(scope="session")
def trained(make_config: Callable[..., TrainConfig]) -> tuple[TrainConfig, dict[str, Any]]:
    config = make_config(epochs=8)
    return config, train(config)


UNHEARD = "brimwax"
"""The term of which `init_context_of` has no text."""


@pytest.fixture(scope="session")
def init_context_of(make_model: Callable[..., Path]) -> Callable[..., Any]:
    """A function (family) -> what an initialiser may look at: a tiny model, three terms, and text about two of them."""
    from dataclasses import replace
    from functools import cache

    from contrastok.bank import FrozenEncoder
    from contrastok.export import init_context
    from contrastok.models import load_model
    from contrastok.vocabulary import extend_tokenizer, plan_vocabulary
    from tests.conftest import kitchen_lines

    @cache
    def make(family: str) -> Any:
        model = load_model(str(make_model(family)))
        plan = plan_vocabulary(model.tokenizer, list(GLOSSARY))
        about = [frame.format(term) for term in GLOSSARY if term != UNHEARD for frame in FRAMES]
        return replace(
            init_context(model, plan),
            extended=extend_tokenizer(model.tokenizer, plan),
            encoder=FrozenEncoder(model, model.tokenizer, cache=False),
            texts=(*about, *kitchen_lines()[:200]),
        )

    return make
