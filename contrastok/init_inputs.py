"""What the options of an initialiser name: it must be there, and the same when a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from contrastok.data_gen.text_files import require
from contrastok.donor import donor_folder
from contrastok.files import sha256_path
from contrastok.hypernet.store import NETWORK
from contrastok.initializers.context import InitOptions

if TYPE_CHECKING:
    from contrastok.config import TrainConfig

VECTORS = "a file of word vectors (the text format of word2vec, fastText, GloVe)"


def init_options(config: TrainConfig) -> InitOptions:
    """What the options of train say to an initialiser."""
    return InitOptions(
        norm=config.init_norm,
        vectors=config.init_vectors,
        model=config.init_model,
        sentences=config.evidence_sentences,
        dimension=config.init_dimension,
        hypernet=config.init_hypernet,
    )


def require_inputs(config: TrainConfig) -> None:
    """Refuse what is not there, before anything is loaded.

    Raises:
        ContrastokError: names the option and what it takes.
    """
    if config.init_vectors is not None:
        require(config.init_vectors, "--init-vectors", VECTORS)
    if config.init_hypernet is not None:
        require(config.init_hypernet, "--init-hypernet", NETWORK)
    if config.init_model is not None:
        donor_folder(config.init_model)


def input_hashes(config: TrainConfig) -> dict[str, str]:
    """SHA-256 of what was given, by option: a run goes on where contents are the same, not names alone.

    Raises:
        ContrastokError: something is no longer there, or cannot be read.
    """
    donor = None if config.init_model is None else Path(donor_folder(config.init_model))
    given = {"init_vectors": config.init_vectors, "init_model": donor, "init_hypernet": config.init_hypernet}
    return {name: sha256_path(path) for name, path in given.items() if path is not None}
