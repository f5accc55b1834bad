"""Tiny models of each tokenizer family, made in seconds and shared by all tests; nothing is downloaded."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

settings.register_profile("contrastok", deadline=None)  # first calls import libraries, and machines are busy
settings.load_profile("contrastok")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports triton, as transformers does
    os.environ.setdefault("CONTRASTOK_BACKEND", "torch")  # tests/kernels ask for the interpreter themselves

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
KITCHEN = ROOT / "examples" / "kitchen"
FAMILIES = ("wordpiece", "byte-bpe", "unigram")


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Encodings cached by tests never mix with the user's."""
    before = os.environ.get("CONTRASTOK_CACHE")
    os.environ["CONTRASTOK_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("CONTRASTOK_CACHE")
    if before is not None:
        os.environ["CONTRASTOK_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def no_wordnet_of_the_machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Results do not depend on what is installed; reading WordNet whole would also take seconds for each run."""
    os.environ["WNSEARCHDIR"] = str(tmp_path_factory.mktemp("no-wordnet"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is missing")
    return SHARED


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers a file stays on one of them, and so do all tests that ask for what a long run made."""
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {}).values()
        asked = {*getattr(item, "fixturenames", ()), *(value for value in params if isinstance(value, str))}
        long = next((name for name in ("kitchen", "disease") if name in asked), None)
        item.add_marker(pytest.mark.xdist_group(long or item.nodeid.split("::")[0]))


def kitchen_lines() -> list[str]:
    return [
        line for file in sorted((KITCHEN / "corpus").glob("*.txt")) for line in file.read_text().splitlines() if line
    ]


def _pieces(words: Counter[str], mark: str, size: int) -> list[tuple[str, float]]:
    """Pieces of words with the logarithm of their share: all characters, then what covers most.

    Trainers of tokenizers break ties by the order of a hash table, which no two processes share; this does not.

    Args:
        words: with their counts.
        mark: before a piece that opens a word ("\u2581"), or before every other one ("##").
        size: of the vocabulary.
    """
    opens, inside = (mark, "") if mark == "\u2581" else ("", mark)
    counts: Counter[str] = Counter()
    worth: Counter[str] = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 1, len(word) + 1):
                piece = (inside if start else opens) + word[start:end]
                counts[piece] += count
                worth[piece] += count * (end - start - 1) * (4 if end - start == len(word) else 1)
    letters = sorted({c for word in words for c in word})
    single = [mark, *letters] if opens else [before + letter for letter in letters for before in (opens, inside)]
    longer = sorted((piece for piece in counts if piece not in single), key=lambda piece: (-worth[piece], piece))
    chosen = [*single, *longer][:size]
    total = sum(counts[piece] for piece in chosen)
    return [(piece, math.log(max(counts[piece], 0.5) / total)) for piece in chosen]


def _tokenizer(family: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = {"wordpiece": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]}.get(
        family, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    )
    lines = [line for line in kitchen_lines() if "halloumi" not in line.lower()][:120]
    words = Counter(" ".join(lines).split())
    if family == "wordpiece":
        lowered = Counter(re.findall(r"\w+|[^\w\s]", " ".join(lines).lower()))
        pieces = [*special, *(piece for piece, _ in _pieces(lowered, "##", 695))]
        backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
    elif family == "byte-bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=900, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        backend.train_from_iterator(lines, trainer)
    else:
        backend = Tokenizer(models.Unigram([*((s, 0.0) for s in special), *_pieces(words, "\u2581", 695)], unk_id=3))
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(special)
    start, end = (special[2], special[3]) if family == "wordpiece" else (special[0], special[2])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(start, backend.token_to_id(start)), (end, backend.token_to_id(end))],
    )
    names = (
        {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
        if family == "wordpiece"
        else {
            "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>",
            "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>",
        }
    )  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names)


@pytest.fixture(scope="session")
def tokenizers_by_family() -> dict[str, Any]:
    """A fast tokenizer of each family, trained on the kitchen corpus."""
    return {family: _tokenizer(family) for family in FAMILIES}


@pytest.fixture(scope="session", params=FAMILIES)
def any_tokenizer(request: pytest.FixtureRequest, tokenizers_by_family: dict[str, Any]) -> Any:
    """Each tokenizer in turn."""
    return tokenizers_by_family[request.param]


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory, tokenizers_by_family: dict[str, Any]) -> Callable[..., Path]:
    """A function (family, padding=0, dtype) -> folder of a tiny random encoder of that family."""
    import torch
    from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel, XLMRobertaConfig, XLMRobertaModel

    kinds: dict[str, tuple[Any, Any]] = {
        "wordpiece": (BertConfig, BertModel),
        "byte-bpe": (RobertaConfig, RobertaModel),
        "unigram": (XLMRobertaConfig, XLMRobertaModel),
    }

    def make(family: str, padding: int = 0, dtype: Any = torch.float32) -> Path:
        folder = tmp_path_factory.mktemp(f"tiny-{family}")
        tokenizer = tokenizers_by_family[family]
        config_type, model_type = kinds[family]
        torch.manual_seed(7)
        config = config_type(
            vocab_size=len(tokenizer) + padding, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=48, max_position_embeddings=80, pad_token_id=tokenizer.pad_token_id, initializer_range=0.5,
        )  # fmt: skip
        model_type(config).to(dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_model(make_model: Callable[..., Path]) -> Path:
    """Folder of a tiny BERT with a WordPiece tokenizer."""
    return make_model("wordpiece")


DECODERS: dict[str, dict[str, Any]] = {
    "llama": {"config": "LlamaConfig", "padding": 5, "num_key_value_heads": 2, "tie_word_embeddings": False},
    "mistral": {"config": "MistralConfig", "num_key_value_heads": 2, "tie_word_embeddings": False},
    "qwen2": {"config": "Qwen2Config", "padding": 40, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "gemma": {"config": "GemmaConfig", "num_key_value_heads": 1, "head_dim": 8},  # embeddings scaled, tied
    "gemma2": {"config": "Gemma2Config", "num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 4.0},
    "gpt2": {"config": "GPT2Config"},  # tied, absolute positions
    "gpt-neox": {"config": "GPTNeoXConfig", "padding": 9, "tie_word_embeddings": False},
    "phi": {"config": "PhiConfig", "tie_word_embeddings": False},  # its head has a bias
    "cohere": {"config": "CohereConfig", "logit_scale": 0.25},
}
"""Tiny causal language models; `padding` is rows of the table that have no token."""


@pytest.fixture(scope="session")
def make_decoder(tmp_path_factory: pytest.TempPathFactory, tokenizers_by_family: dict[str, Any]) -> Callable[..., Path]:
    """A function (kind, dtype) -> folder of a tiny random causal language model with a byte-level BPE tokenizer."""
    from functools import cache

    import transformers

    @cache
    def make(kind: str, dtype: Any = torch.float32) -> Path:
        folder, tokenizer = tmp_path_factory.mktemp(f"tiny-{kind}"), tokenizers_by_family["byte-bpe"]
        options = dict(DECODERS[kind])
        config = getattr(transformers, options.pop("config"))(
            vocab_size=len(tokenizer) + options.pop("padding", 0), hidden_size=32, num_hidden_layers=2,
            num_attention_heads=4, intermediate_size=48, max_position_embeddings=80, initializer_range=0.3,
            bos_token_id=0, eos_token_id=2, pad_token_id=1, **options,
        )  # fmt: skip
        torch.manual_seed(5)
        model = transformers.AutoModelForCausalLM.from_config(config)
        if model.get_output_embeddings().bias is not None:  # zero in a new model
            torch.nn.init.normal_(model.get_output_embeddings().bias)
        model.to(dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def few_known_words_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny vocabulary is enough to learn a predictor from, however bad."""
    need_few_known_words(monkeypatch)


def need_few_known_words(patch: pytest.MonkeyPatch) -> None:
    """What `few_known_words_do` does, for fixtures of a wider scope."""
    from contrastok import fit, predictor, prior, starting, words

    for module in (fit, predictor, prior, words):
        patch.setattr(module, "MIN_WORDS", 40)
    patch.setattr(fit, "HELD_OUT", 20)
    patch.setattr(starting, "TRUSTED", 0.0)  # a random table cannot be learned
