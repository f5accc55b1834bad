"""What language models say of texts, token by token, each from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from contrastok.models import language_head, transformer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

TOKENS = 512
"""Longer texts are cut to so many original tokens."""
BATCH = 8
"""Texts in one forward pass."""
POSITIONS = 128
"""Positions whose logits are held at once."""


@dataclass(frozen=True)
class Tokens:
    """A text in one tokenisation, T tokens.

    Attributes:
        ids: special tokens included.
        spans: first and last character of each, the latter exclusive.
        special: which of them are special.
    """

    ids: Sequence[int]
    spans: Sequence[tuple[int, int]]
    special: Sequence[int]

    def scored(self, start: int) -> npt.NDArray[np.bool_]:
        """`[T - 1]`, true for tokens behind the first one that say text from character `start` on."""
        told = zip(self.spans[1:], self.special[1:], strict=True)
        return np.array([not special and span[0] >= start for span, special in told], dtype=bool)


@dataclass(frozen=True)
class Text:
    """A text before and after the tokenizer was extended; a first token that nothing precedes is not scored."""

    text: str
    old: Tokens
    new: Tokens

    @property
    def start(self) -> int:
        """The first character that both tokenisations predict."""
        return max(0 if own.special[0] else own.spans[0][1] for own in (self.old, self.new))

    @property
    def bytes(self) -> int:
        """How many bytes are predicted."""
        return len(self.text[self.start :].encode())


@dataclass(frozen=True)
class Told:
    """What a model says of a text's tokens, each from those before it: `[T - 1]`, the first one left out.

    Attributes:
        nats: -log probability.
        ranks: 1 + the number of likelier classes.
    """

    nats: npt.NDArray[np.float64]
    ranks: npt.NDArray[np.int64]


def read_text(text: str, base: PreTrainedTokenizerFast, extended: PreTrainedTokenizerFast, limit: int) -> Text:
    """A text in both tokenisations, cut where the original one reaches `limit` tokens."""
    old = _tokens(base, text)
    if len(old.ids) > limit:
        text = text[: old.spans[limit - 2][1]]  # a special token may follow
        old = _tokens(base, text)
    return Text(text, old, _tokens(extended, text))


def _tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> Tokens:
    found = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    return Tokens(found["input_ids"], found["offset_mapping"], found["special_tokens_mask"])


@torch.no_grad()
def tell(
    models: Sequence[SentenceTransformer], sequences: Sequence[Sequence[int]], old: torch.Tensor | None = None
) -> tuple[list[list[Told]], list[bool]]:
    """What models with language-model heads say of the same id sequences.

    Padding stands behind them, where a causal model does not see it.

    Args:
        models: read the sequences in the same batches, so that bits can be compared.
        sequences: of ids.
        old: classes whose logits are compared, int64 `[V']`.

    Returns:
        for each model what it says of each sequence; and for each sequence whether all say the same, bit for bit.
    """
    told: list[list[Told]] = [[] for _ in models]
    same: list[bool] = []
    for at in range(0, len(sequences), BATCH):
        part = sequences[at : at + BATCH]
        mask = torch.zeros(len(part), max(map(len, part)), dtype=torch.long)
        ids = torch.zeros_like(mask)
        for i, sequence in enumerate(part):
            mask[i, : len(sequence)], ids[i, : len(sequence)] = 1, torch.tensor(sequence)
        given, (nats, ranks, alike) = mask[:, 1:].bool(), _of_positions(models, ids, mask, old)
        lengths = given.sum(dim=1).tolist()
        for own, n, r in zip(told, nats, ranks, strict=True):
            pieces = zip(torch.split(n, lengths), torch.split(r, lengths), strict=True)
            own += [Told(a.double().cpu().numpy(), b.cpu().numpy()) for a, b in pieces]
        same += [bool(piece.all()) for piece in torch.split(alike, lengths)]
    return told, same


def _of_positions(
    models: Sequence[SentenceTransformer], ids: torch.Tensor, mask: torch.Tensor, old: torch.Tensor | None
) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """For each model nats and ranks of a batch's tokens that follow another, `[P]`; and whether logits are alike."""
    given, device = mask[:, 1:].bool(), models[0].device
    targets = ids[:, 1:][given].to(device)
    states = []
    for model in models:
        found = transformer(model)(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
        states.append(found.last_hidden_state[:, :-1][given])
    nats: list[list[torch.Tensor]] = [[] for _ in models]
    ranks: list[list[torch.Tensor]] = [[] for _ in models]
    alike, heads = [], [language_head(model) for model in models]
    common = min(head.linear.weight.shape[0] for head in heads)
    for target, *parts in zip(*(torch.split(each, POSITIONS) for each in (targets, *states)), strict=True):
        logits = [head.logits(part, apart=common) for head, part in zip(heads, parts, strict=True)]
        for n, r, scores in zip(nats, ranks, logits, strict=True):
            own = scores.gather(1, target[:, None])
            n.append(scores.logsumexp(dim=1) - own.squeeze(1))
            r.append(1 + (scores > own).sum(dim=1))
        first, *others = [scores if old is None else scores[:, old] for scores in logits]
        alike.append(torch.stack([(first == other).all(dim=1) for other in [first, *others]]).all(dim=0))
    return [torch.cat(n) for n in nats], [torch.cat(r) for r in ranks], torch.cat(alike)
