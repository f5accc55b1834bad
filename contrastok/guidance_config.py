"""The configurations of the commands that guide before training: what to teach, and whether all is well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contrastok.options import Common, VocabularyOptions, flag, missing


@dataclass(frozen=True, kw_only=True)
class SuggestConfig(Common):
    """Which words of a corpus are worth a token: split into many pieces, frequent, and found all over the text.

    Example: contrastok suggest --corpus corpus/ --glossary /usr/share/wordnet --out terms.jsonl --plot saved.png

    The terms file goes into gen-pairs as it is; look through it first.
    """

    corpus: tuple[str, ...] = ()
    """Text: .txt, .jsonl, .csv (each also .gz), .parquet, a folder of them, a WordNet folder, or a dataset's name."""
    model: str = "minilm"
    """Local folder, hub name, or minilm for the packaged all-MiniLM-L6-v2."""
    glossary: tuple[Path, ...] = ()
    """Where the words are looked up: term files or a WordNet folder."""
    out: Path | None = None
    """Terms file (.jsonl) to write. Without it only the table is printed."""
    plot: Path | None = None
    """Plot of the tokens saved against the words added, .png or .svg."""
    rank: Literal["usage", "merges"] = "usage"
    """usage: tokens saved, less where a word keeps to few places. merges: the order in which byte-pair encoding,
    continued on the corpus from the model's own pieces, makes words whole."""
    limit: int = 200
    """Words suggested at most."""
    min_count: int = 5
    """Words that occur less often are no candidates: there would be too few sentences to learn from."""
    text_field: str = "text"
    """Field of .jsonl, .csv, .parquet and datasets that holds the text."""
    split: str = "train"
    """Split, where --corpus names a dataset."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems() + missing(self, "corpus")
        found += [
            f"--{flag(name)} must be at least 1, not {getattr(self, name)}"
            for name in ("limit", "min_count")
            if getattr(self, name) < 1
        ]
        if self.out is not None and self.out.suffix.lower() != ".jsonl":
            found.append(f"--out {self.out} must end in .jsonl: by this readers of terms know what it is")
        if self.plot is not None:
            from contrastok.data_gen.suggest.show import PLOTS

            if self.plot.suffix.lower() not in PLOTS:
                found.append(f"--plot {self.plot} must end in one of {', '.join(PLOTS)}")
        return found


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(VocabularyOptions, Common):
    """Check model, tokenizer, terms and text before an hour is spent, and say what to do about what is found.

    Example: contrastok doctor --terms terms.jsonl --corpus corpus/
             contrastok doctor --terms terms.jsonl --pairs pairs/ --out model/

    Exit code 0 when all is well or there are only warnings, 2 when there is a problem. The tables [gen-pairs] and
    [train] of --config hold the options of both.
    """

    terms: tuple[Path, ...] = ()
    """Words to teach, as for gen-pairs."""
    model: str = "minilm"
    """Local folder, hub name, or minilm for the packaged all-MiniLM-L6-v2."""
    corpus: tuple[str, ...] = ()
    """Before gen-pairs: text, as for gen-pairs; its first megabytes are looked at."""
    glossary: tuple[Path, ...] = ()
    """Where to look up what the terms lack, as for gen-pairs."""
    pairs: Path | None = None
    """Before train: the folder that gen-pairs wrote."""
    out: Path | None = None
    """Where the checkpoint shall go: is it free, writable and large enough? Nothing is written."""
    text_field: str = "text"
    """Field of .jsonl, .csv, .parquet and datasets that holds the text."""
    split: str = "train"
    """Split, where --corpus names a dataset."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        return super().problems() + missing(self, "terms")


GUIDANCE_COMMANDS: dict[str, type[Common]] = {
    "suggest": SuggestConfig,
    "doctor": DoctorConfig,
}
