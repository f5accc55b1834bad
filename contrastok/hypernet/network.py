"""The network: rows of a token's pieces and, if there is one, its definition in, its row out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

PIECES = 7
"""Pieces that are looked at; longer tokens are cut, as ZeTT does."""
BATCH = 1024
"""Tokens in one forward pass outside of training."""

Ids = Sequence[int]


class HyperNetwork(nn.Module):
    """A small transformer over the rows of a token's pieces, in the manner of ZeTT (arXiv:2405.07883).

    Rows are scaled to mean 0 and standard deviation 1 in each coordinate, and the output is scaled back. The network
    gives what is to be added to the mean of the pieces weighted by characters. It begins with nothing to add: untrained
    it is `charlen_mean`. A definition is one more element of the sequence, behind the pieces.

    Args:
        width: of a row, `d`, and of the network.
        layers: of the transformer.
        told: numbers that a definition is told by, `e`; 0 for a network that reads none.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, width: int, layers: int, told: int = 0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.inside = nn.Linear(width, width)
        self.positions = nn.Parameter(0.02 * torch.randn(PIECES + 1, width))
        layer = nn.TransformerEncoderLayer(
            width, heads(width), 2 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.outside = nn.Linear(width, width)
        nn.init.zeros_(self.outside.weight)
        nn.init.zeros_(self.outside.bias)
        self.reading = nn.Linear(told, width) if told else None  # drawn last: the others are the same without it

    @torch.no_grad()
    def learn_scale(self, rows: torch.Tensor) -> None:
        """Take mean and standard deviation from rows, `[n, d]`."""
        self.mean.copy_(rows.float().mean(0))
        self.std.copy_(rows.float().std(0).clamp_min(1e-6))

    def scaled(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows as the network sees them, float32, of the same shape."""
        return (rows.float() - self.mean) / self.std

    def forward(self, pieces: torch.Tensor, lengths: torch.Tensor, told: torch.Tensor | None = None) -> torch.Tensor:
        """Scaled rows of tokens.

        Args:
            pieces: scaled rows of their pieces, float32 `[B, k, d]`, `k` at most `PIECES`.
            lengths: characters of each piece, float32 `[B, k]`; 0 where there is none.
            told: definitions, float32 `[B, e]`, rows of norm 1, or of NaN where there is none. A network that reads
                definitions takes None for none at all; any other does not look at it.

        Returns:
            float32 `[B, d]`; `mean + std * it` is the row.
        """
        weights = lengths / lengths.sum(1, keepdim=True)
        composed = torch.einsum("bkd,bk->bd", pieces, weights)
        sequence = self.inside(torch.cat([composed[:, None], pieces], dim=1)) + self.positions[: pieces.shape[1] + 1]
        absent = torch.cat([lengths.new_zeros(len(lengths), 1).bool(), lengths == 0], dim=1)
        if self.reading is not None and told is not None:
            scaled = told.nan_to_num() * self.reading.in_features**0.5  # as large as the scaled rows
            sequence = torch.cat([sequence, self.reading(scaled)[:, None]], dim=1)
            absent = torch.cat([absent, told.isnan().any(1, keepdim=True)], dim=1)
        change: torch.Tensor = self.outside(self.encoder(sequence, src_key_padding_mask=absent)[:, 0])
        return composed + change

    @torch.no_grad()
    def rows(
        self,
        table: torch.Tensor,
        pieces: Sequence[Ids],
        lengths: Sequence[Ids],
        told: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Rows of tokens, given as the ids of their pieces and the characters that each covers.

        Args:
            table: the embedding table, `[V, d]`.
            pieces: for each of `n` tokens at least one id.
            lengths: for each token as many numbers.
            told: definitions, `[n, e]`, see `forward`.

        Returns:
            float32 `[n, d]`.
        """
        was, found = self.training, []
        self.eval()
        for at in range(0, len(pieces), BATCH):
            ids, sizes = padded(pieces[at : at + BATCH], lengths[at : at + BATCH])
            some = None if told is None else told[at : at + BATCH]
            scaled = self(self.scaled(table[ids.to(table.device)]), sizes.to(table.device), some)
            found.append(self.mean + self.std * scaled)
        self.train(was)
        return torch.cat(found) if found else self.mean.new_zeros(0, len(self.mean))


def heads(width: int) -> int:
    """Attention heads: one for 64 coordinates, or as near to it as divides the width."""
    return next(count for count in range(max(1, width // 64), 0, -1) if width % count == 0)


def padded(pieces: Sequence[Ids], lengths: Sequence[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids int64 and characters float32, `[n, k]`, cut to `PIECES` and filled up with zeros; each token has a piece.

    A piece that covers no character (a byte) counts as one.
    """
    width = min(PIECES, max(map(len, pieces)))
    ids, sizes = torch.zeros(len(pieces), width, dtype=torch.long), torch.zeros(len(pieces), width)
    for row, (some, covered) in enumerate(zip(pieces, lengths, strict=True)):
        kept = min(PIECES, len(some))
        ids[row, :kept] = torch.tensor(some[:kept])
        sizes[row, :kept] = torch.tensor([max(1, size) for size in covered[:kept]], dtype=torch.float32)
    return ids, sizes
