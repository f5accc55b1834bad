"""A training that diverges stops, and what it had reached before is not lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastok.errors import OutputError
from contrastok.export import write_rows
from contrastok.files import atomic_file
from contrastok.loop import DivergedError
from contrastok.trainables import TRAINABLES

if TYPE_CHECKING:
    from contrastok.config import TrainConfig
    from contrastok.embedding import RowOverlay
    from contrastok.ranks import Ranks
    from contrastok.vocabulary import VocabularyPlan


def last_good_path(out: Path) -> Path:
    """Where the rows of a run that will write `out` are kept when it diverges."""
    return out.absolute().with_name(f"{out.name}.last-good.safetensors")


@contextlib.contextmanager
def last_good_kept(
    config: TrainConfig, plan: VocabularyPlan, overlay: RowOverlay, facts: Mapping[str, Any], init: str, ranks: Ranks
) -> Iterator[None]:
    """Write the rows to which a loop went back when it diverged, in the file that `contrastok apply` reads.

    Rows that were trained together with old weights mean nothing without those; no file is written of them.

    Args:
        config: the options.
        plan: the new tokens.
        overlay: their rows.
        facts: about the base model.
        init: the initialiser.
        ranks: all have gone back; rank 0 writes, and the others wait, for who leaves first takes the rest along.

    Raises:
        DivergedError: as it came, with a hint that says where the rows are.
    """
    try:
        yield
    except DivergedError as error:
        assert config.out is not None  # validate() saw to it
        hint, file = error.hint, last_good_path(config.out)
        if ranks.first and not (config.moves_body or TRAINABLES[config.trainable].moves_old):
            rows, head = overlay.rows[: len(plan.terms)], overlay.head.rows if overlay.head is not None else None
            told = {"base_model": facts, "init": init, "init_norm": config.init_norm, "seed": config.seed}
            with contextlib.suppress(OutputError), atomic_file(file) as partial:
                write_rows(partial, plan, rows, head, told)
                hint += (
                    f"; the rows after step {error.kept}, the last that were saved, make a checkpoint by\n     "
                    f"contrastok apply {file} --model {config.model} --out {config.out}"
                )
        ranks.wait()
        raise DivergedError(error.what, kept=error.kept, hint=hint) from error
