"""Continued byte-pair encoding: the merges that the corpus would add to a model's own segmentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from contrastok.data_gen.suggest.worth import Word

FIRST_SIGN = 0x10000
"""Pieces become signs from here on: beyond the surrogates, and no white space."""
READ = 5_000_000
"""Words that the trainer gets to see; with more occurrences all counts are scaled down alike."""
MERGES_A_WORD = 12
"""Merges learned for each word wanted: most of them build parts, and words that need no token."""


def continued_merges(words: Iterable[Word], wanted: int) -> dict[str, int]:
    """After which merge each word is one token, when BPE training goes on on this corpus from the model's own pieces.

    Every piece stands for one sign, so that the trainer of the `tokenizers` library (Sennrich, Haddow & Birch 2016) can
    only join what the model has. It works for tokenizers that were not made by merges as well.

    Args:
        words: all words of several pieces, with their counts.
        wanted: words that shall become one token; the merges learned grow with it.

    Returns:
        by key of the word's family the number of the merge, from 1; only words that become whole.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    kept = [word for word in words if len(word.ids) > 1]
    signs = {i: chr(FIRST_SIGN + at) for at, i in enumerate(sorted({i for word in kept for i in word.ids}))}
    written = {word.family.key: "".join(signs[i] for i in word.ids) for word in kept}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=len(signs) + MERGES_A_WORD * wanted,
        initial_alphabet=sorted(signs.values()),
        limit_alphabet=len(signs),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_repeated(kept, written), trainer)
    merges = {form: i - len(signs) + 1 for form, i in tokenizer.get_vocab().items() if i >= len(signs)}
    return {key: merges[form] for key, form in written.items() if form in merges}


def _repeated(words: Sequence[Word], written: dict[str, str]) -> Iterator[str]:
    """Every word as often as it occurs, for the trainer takes no counts."""
    scale = max(1.0, sum(word.count for word in words) / READ)
    return (f"{written[word.family.key]} " * max(1, round(word.count / scale)) for word in words)
