"""contrastok: teach a pretrained encoder new words by training only their embedding rows.

The public names load on first use, so that `contrastok --help` does not wait for torch:

    from contrastok import GenPairsConfig, TrainConfig, ReportConfig, gen_pairs, train, report
    from contrastok import attach  # new rows in a training loop of your own
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file() and (_ROOT / "kernels").is_dir():
    # In a checkout the sub-packages kernels, data_gen and eval stand beside this folder. An installed
    # wheel has them inside it. kernels/ has no __init__.py, so that a `kernels` on sys.path never
    # shadows the Hugging Face package of that name, which transformers imports.
    __path__.append(str(_ROOT))

_PUBLIC = {
    "ApplyConfig": "contrastok.config",
    "ExportConfig": "contrastok.config",
    "GenPairsConfig": "contrastok.config",
    "ImportConfig": "contrastok.config",
    "ReportConfig": "contrastok.report_config",
    "TrainConfig": "contrastok.config",
    "ContrastokError": "contrastok.errors",
    "Term": "contrastok.data_gen.terms",
    "apply": "contrastok.export",
    "attach": "contrastok.handle",
    "export_adapter": "contrastok.exchange",
    "gen_pairs": "contrastok.data_gen.pipeline",
    "import_adapter": "contrastok.exchange",
    "load_checkpoint": "contrastok.checkpoint",
    "report": "contrastok.eval.report",
    "train": "contrastok.trainer",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'contrastok' has no attribute {name!r}")
