"""Tokenizers sampled as UnigramLM with noise, which split the words that a model knows into other pieces each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from contrastok.token_text import TokenText

if TYPE_CHECKING:
    from tokenizers.models import Unigram

MARK = "▁"
"""Before the text of a piece that begins a word."""
LONGEST = 16
"""Characters of a piece at most."""
KEPT = 0.5
"""Share of the pieces that a sampled tokenizer keeps. ZeTT keeps 32,768 of all substrings of its texts; here a piece
must have a row, so there are fewer, and as many would be all of them."""
NOISE = (float(np.log(1e-5)), 4.0)
"""Mean and standard deviation of the logarithm of the noise's scale."""
LEAST = 1e-12
"""Score of a single character that was not kept: with all of them every word can be written."""

Ids = tuple[int, ...]


class PieceSampler:
    """Draws tokenizers over the pieces that have a row, and splits words with them.

    A piece's score is how often it stands in the words times its length, as a share of all (Minixhofer et al. 2024,
    arXiv:2405.07883). A sampled tokenizer adds Gaussian noise, the scale of which is log-normal, keeps the
    best, and takes the logarithms of their scores for a UnigramLM (Kudo 2018).

    Args:
        pieces: what each id that may be a piece stands for.
        frequencies: how often each word stands in the text.
    """

    def __init__(self, pieces: Mapping[int, TokenText], frequencies: Mapping[str, int]) -> None:
        ids: dict[str, int] = {}
        for i, piece in pieces.items():
            if len(piece.text) <= LONGEST and not {" ", MARK} & set(piece.text):
                ids.setdefault(marked(piece), i)
        self.ids = ids
        self.strings = list(ids)
        place = {string: at for at, string in enumerate(self.strings)}
        self.scores = _scores(place, frequencies)
        self.single = np.array([len(string.removeprefix(MARK)) == 1 for string in self.strings], bool)

    def split(self, tokens: Sequence[TokenText], groups: int, generator: np.random.Generator) -> list[Ids]:
        """Pieces of each token, none of which is the token itself.

        The tokens fall into groups at random. Each group has a sampled tokenizer of its own, from which all of the
        group's tokens are taken away.

        Returns:
            for each token at least two ids; none where a character has no row.
        """
        found: list[Ids] = [()] * len(tokens)
        for group in np.array_split(generator.permutation(len(tokens)), groups):
            strings = [marked(tokens[at]) for at in group]
            model = self._sample(set(strings), generator)
            for at, string in zip(group.tolist(), strings, strict=True):
                ids = tuple(self.ids.get(piece.value, -1) for piece in model.tokenize(string))
                found[at] = ids if len(ids) > 1 and -1 not in ids else ()
        return found

    def _sample(self, without: set[str], generator: np.random.Generator) -> Unigram:
        from tokenizers.models import Unigram

        noise = generator.normal(0, np.exp(generator.normal(*NOISE)), len(self.scores))
        noisy = self.scores + noise
        best = noisy >= np.quantile(noisy, 1 - KEPT)
        scores = np.where(best, noisy.clip(LEAST), LEAST)
        taken = np.flatnonzero(best | self.single).tolist()
        vocabulary = [(self.strings[at], float(np.log(scores[at]))) for at in taken if self.strings[at] not in without]
        return Unigram([("<unk>", 2 * float(np.log(LEAST))), *vocabulary], unk_id=0)


def marked(token: TokenText) -> str:
    """A token as the sampled tokenizers write it."""
    return MARK + token.text if token.starts else token.text


def _scores(place: Mapping[str, int], frequencies: Mapping[str, int]) -> np.ndarray:
    """Frequency times length of each piece, as shares that sum to 1; float64 `[pieces]`."""
    counts: Counter[int] = Counter()
    for word, frequency in frequencies.items():
        string = MARK + word
        for start in (0, *range(2, len(string))):  # without its mark no piece stands at the beginning
            for end in range(max(start + 1, 2), min(start + LONGEST + (start == 0), len(string)) + 1):
                at = place.get(string[start:end])
                if at is not None:
                    counts[at] += frequency * (end - max(start, 1))
    scores = np.zeros(len(place))
    scores[list(counts)] = list(counts.values())
    return scores / max(scores.sum(), 1)  # type: ignore[no-any-return]
