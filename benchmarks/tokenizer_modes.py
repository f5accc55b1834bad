"""What adding words does to text that holds none of them: our modes beside `tokenizer.add_tokens([...])`.

    python -m benchmarks.tokenizer_modes [--terms 300] [--sentences 20000] [--json FILE]

The words are the most frequent ones of MedQuAD that a tokenizer splits. The tokenizers are MiniLM's WordPiece, and a
byte-level BPE and a Unigram one trained on half of the text; the sentences are of the other half.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import SHARED


def sentences(shared: Path) -> list[str]:
    """Sentences of MedQuAD's answers."""
    from contrastok.data_gen.sentences import blocks, split_sentences

    with gzip.open(shared / "medquad" / "medquad.jsonl.gz", "rt", encoding="utf-8") as handle:
        answers = [json.loads(line)["answer"] for line in handle]
    return list(dict.fromkeys(s for answer in answers for block in blocks(answer) for s in split_sentences(block)))


def train_tokenizer(kind: str, texts: list[str]) -> Any:
    """A fast tokenizer of the kind byte-bpe or unigram, 16,000 entries."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    trainer: Any
    if kind == "byte-bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=16000, special_tokens=["<pad>"], initial_alphabet=alphabet)
    else:
        backend = Tokenizer(models.Unigram())
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=16000, special_tokens=["<pad>", "<unk>"], unk_token="<unk>")
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")


def frequent_split_words(tokenizer: Any, texts: list[str], count: int) -> list[str]:
    """The most frequent lower-case words that the tokenizer splits."""
    from contrastok.vocabulary import pieces

    words = Counter(word for text in texts for word in re.findall(r"(?<!\w)[a-z]{5,}(?!\w)", text))
    found: list[str] = []
    for word, _ in words.most_common():
        if len(found) == count:
            break
        if len(pieces(tokenizer, word)) > 1:
            found.append(word)
    return found


def measure(tokenizer: Any, extended: Any, words: list[str], texts: list[str]) -> dict[str, float]:
    """Share of sentences without any of the words that change, and tokens saved in all of them."""
    from contrastok.vocabulary import encode_plain, normalise

    pattern = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + r")(?!\w)")
    before, after = encode_plain(tokenizer, texts), encode_plain(extended, texts)
    clean = [
        i for i, text in enumerate(texts) if not pattern.search(normalise(tokenizer.backend_tokenizer, text).lower())
    ]
    changed = sum(before[i] != after[i] for i in clean)
    return {
        "clean_sentences": len(clean),
        "clean_changed": changed,
        "clean_changed_share": changed / len(clean),
        "length_ratio": sum(map(len, after)) / sum(map(len, before)),
        "ids": len(extended) - len(tokenizer),
    }


def main() -> None:
    """Run, and print the table."""
    from contrastok.models import load_tokenizer
    from contrastok.vocabulary import extend_tokenizer, plan_vocabulary

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--terms", type=int, default=300)
    parser.add_argument("--sentences", type=int, default=20000)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    texts = sentences(SHARED)
    training, held = texts[::2], texts[1::2][: arguments.sentences]
    results: dict[str, dict[str, dict[str, float]]] = {}
    for family in ("wordpiece", "byte-bpe", "unigram"):
        tokenizer = load_tokenizer("minilm") if family == "wordpiece" else train_tokenizer(family, training)
        words = frequent_split_words(tokenizer, training, arguments.terms)
        naive = copy.deepcopy(tokenizer)
        naive.add_tokens(words)
        results[family] = {"add_tokens": measure(tokenizer, naive, words, held)}
        for mode in ("added", "vocab"):
            extended = extend_tokenizer(tokenizer, plan_vocabulary(tokenizer, words, mode))
            results[family][mode] = measure(tokenizer, extended, words, held)
        for mode, figures in results[family].items():
            print(
                f"{family:10} {mode:10} {figures['ids']:5} ids  clean sentences changed {figures['clean_changed']:5} of "
                f"{figures['clean_sentences']} ({figures['clean_changed_share']:.2%})  length x{figures['length_ratio']:.3f}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
