"""The configurations of `contrastok eval ...`. A new evaluation is a class here, a line in EVAL_COMMANDS, and a
line in cli.RUNNERS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contrastok.errors import did_you_mean
from contrastok.options import Common, flag, missing


@dataclass(frozen=True, kw_only=True)
class OfCheckpoint(Common):
    """What the evaluations of a checkpoint share."""

    model: Path | None = None
    """Checkpoint folder that contrastok train wrote."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        return super().problems() + missing(self, "model")


@dataclass(frozen=True, kw_only=True)
class OfRows(OfCheckpoint):
    """What the evaluations share that set a checkpoint's rows beside others."""

    views: tuple[str, ...] = ()
    """Rows to measure (trained, initial, "pieces mean" ...), by default all: each encodes every text with a new token
    again."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        if not self.views:
            return super().problems()
        from contrastok.eval.baselines import ROW_SOURCES, TRAINED

        known = [name for name in ROW_SOURCES if name != "oracle"]  # there is none of a word that is new
        found = [f"--views {name} is none: {did_you_mean(name, known)}" for name in self.views if name not in known]
        if TRAINED not in self.views:
            found.append(f"--views must name {TRAINED}")
        return super().problems() + found


@dataclass(frozen=True, kw_only=True)
class RelatednessConfig(OfRows):
    """Do new tokens lie near the words that a glossary calls related, where no training text showed them?

    Example: contrastok eval relatedness --model model/ --json relatedness.json
    """

    glossary: tuple[Path, ...] = ()
    """Whose relations to ask for, in place of the checkpoint's held-out ones: term files or a WordNet folder."""
    pairs: Path | None = None
    """Folder that gen-pairs wrote for this checkpoint: related words in its training texts do not count."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems()
        if self.glossary and self.pairs is None:
            found.append("--glossary needs --pairs: a related word that stands in a training text must not count")
        return found


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig(OfRows):
    """Do texts with new tokens find what they should? Without files: term -> definition.

    Example: contrastok eval retrieval --model model/ --queries queries.jsonl --passages passages.jsonl
    """

    queries: Path | None = None
    """.jsonl with the fields id, text and relevant (ids of passages), also .gz."""
    passages: Path | None = None
    """.jsonl with the fields id and text, also .gz."""
    pairs_file: Path | None = None
    """In place of both: .jsonl or .csv whose records hold a query and its passage, question and answer say."""
    query_field: str = "query"
    """Field of --pairs-file that holds the query."""
    passage_field: str = "passage"
    """Field of --pairs-file that holds the passage; equal passages are one."""
    pairs: Path | None = None
    """Folder that gen-pairs wrote: also give figures without queries whose passage holds a training text."""
    only_new_tokens: bool = True
    """Ask queries that hold a new token, themselves or in a relevant passage. The others, which can change only where
    passages with a new token compete, are left out of 'all' and measured apart, as far as their passages are drawn."""
    limit: int = 0
    """At most so many queries of each sort, and so many passages that are no answer, drawn by seed; 0 takes all."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems()
        if (self.queries is None) is not (self.passages is None):
            found.append("--queries and --passages belong together")
        if self.queries is not None and self.pairs_file is not None:
            found.append("--pairs-file stands in place of --queries and --passages")
        if self.limit < 0:
            found.append(f"--limit must be at least 0, not {self.limit}")
        return found


@dataclass(frozen=True, kw_only=True)
class NoHarmConfig(OfRows):
    """Is everything else the same? Text without a new token bit by bit, text with one by its likeness.

    Example: contrastok eval no-harm --model model/ --texts corpus/ --sts stsb-test.csv
    """

    texts: tuple[str, ...] = ()
    """Text of any kind that gen-pairs reads: .txt (a line is a text), .jsonl, .csv, .parquet, folders."""
    text_field: str = "text"
    """Field of .jsonl, .csv and .parquet that holds the text."""
    sts: Path | None = None
    """Rated sentence pairs, .csv with the columns sentence1, sentence2, score; a first line that rates is no header."""
    base: str | None = None
    """The base model, where it is no longer found under the name that the checkpoint remembers."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        return super().problems() + missing(self, "texts")


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(OfCheckpoint):
    """Can a language model say its new tokens, and is everything else the same?

    Example: contrastok eval generation --model model/ --texts held-out/ --pairs pairs/ --json generation.json
    """

    texts: tuple[str, ...] = ()
    """Held-out text of any kind that gen-pairs reads: .txt (a line is a text), .jsonl, .csv, .parquet, folders."""
    text_field: str = "text"
    """Field of .jsonl, .csv and .parquet that holds the text."""
    pairs: Path | None = None
    """Folder that gen-pairs wrote for this checkpoint: texts that hold a training text of their tokens do not count."""
    base: str | None = None
    """The base model, where it is no longer found under the name that the checkpoint remembers."""
    limit: int = 1000
    """At most so many texts with a new token, and so many without one, the first of each; 0 takes all."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems() + missing(self, "texts")
        return found + ([f"--limit must be at least 0, not {self.limit}"] if self.limit < 0 else [])


@dataclass(frozen=True, kw_only=True)
class RecoveryConfig(Common):
    """Do words that the model knows come back when they are hidden and learned anew?

    Example: contrastok eval recovery --sample 200 --corpus corpus/ --glossary /usr/share/wordnet --json recovery.json

    The words go through the ordinary gen-pairs and train; the tables [gen-pairs] and [train] of --config hold the
    options of both.
    """

    terms: tuple[Path, ...] = ()
    """Words that are one token of the model, as for gen-pairs. Others are named and left out."""
    sample: int = 0
    """In place of --terms: draw so many words of the vocabulary that the corpus speaks of."""
    corpus: tuple[str, ...] = ()
    """Text that holds the words, as for gen-pairs."""
    glossary: tuple[Path, ...] = ()
    """Where the words are looked up: term files or a WordNet folder. Its related words are asked for, too."""
    model: str = "minilm"
    """Local folder, hub name, or minilm for the packaged all-MiniLM-L6-v2."""
    text_field: str = "text"
    """Field of .jsonl, .csv, .parquet and datasets that holds the text."""
    split: str = "train"
    """Split, where --corpus names a dataset."""
    min_evidence: int = 8
    """Sentences of five words and more that the corpus must have for a word that --sample draws."""
    init: str | None = None
    """Initialiser of the rows; by default that of train."""
    epochs: int | None = None
    """Passes over the pairs; by default as many as train makes. 0 measures the initial rows alone."""
    work: Path | None = None
    """Folder that keeps the model without the words, the pairs and the checkpoint; by default none is kept."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems() + missing(self, "corpus")
        if bool(self.terms) is bool(self.sample):
            found.append("give either --terms or --sample")
        found += [
            f"--{flag(name)} must be at least {low}, not {getattr(self, name)}"
            for name, low in (("sample", 0), ("min_evidence", 1))
            if getattr(self, name) < low
        ]
        return found


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Common):
    """Train and evaluate every method on your terms and your text, and set them side by side.

    Example: contrastok compare --terms terms.jsonl --corpus corpus/ --methods all --hidden 200 --out compare/

    Every method gets the same pairs and --epochs passes over them, in a process of its own; two-stage takes half as
    many on top, one_token and definition_grounding pass over texts of their own, and the column "steps" says what each
    took. The tables [gen-pairs] and [train] of the file that --config names hold the options of both.
    """

    terms: tuple[Path, ...] = ()
    """Words to teach, as for gen-pairs."""
    corpus: tuple[str, ...] = ()
    """Text, as for gen-pairs."""
    glossary: tuple[Path, ...] = ()
    """Where to look up what the terms lack, as for gen-pairs."""
    model: str = "minilm"
    """Local folder, hub name, or minilm for the packaged all-MiniLM-L6-v2."""
    out: Path | None = None
    """Folder for compare.json, compare.md and compare.png."""
    methods: tuple[str, ...] = ("all",)
    """all, an option of train whose methods are all wanted (init ...), or methods: default, init=subtoken_mean ...
    `contrastok methods` lists them."""
    epochs: int = 3
    """The budget of every method: passes over the pairs. max-steps under [train] of --config ends it earlier."""
    hidden: int = 0
    """Also hide so many words that the model knows, which the corpus speaks of, and look whether they come back."""
    queries: Path | None = None
    """As for eval retrieval; without files, terms are asked for their definitions."""
    passages: Path | None = None
    """As for eval retrieval."""
    pairs_file: Path | None = None
    """As for eval retrieval."""
    query_field: str = "query"
    """As for eval retrieval."""
    passage_field: str = "passage"
    """As for eval retrieval."""
    limit: int = 0
    """As for eval retrieval."""
    sts: Path | None = None
    """As for eval no-harm; the texts are a sample of the corpus."""
    text_field: str = "text"
    """Field of .jsonl, .csv, .parquet and datasets that holds the text."""
    split: str = "train"
    """Split, where --corpus names a dataset."""
    num_proc: int = 1
    """Methods that are trained and measured at the same time, each with its share of the cores."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems() + missing(self, "terms", "corpus", "out", "methods")
        if self.num_proc < 1:
            found.append(f"--num-proc must be at least 1, not {self.num_proc}")
        for name in ("epochs", "hidden", "limit"):
            if getattr(self, name) < 0:
                found.append(f"--{name} must be at least 0, not {getattr(self, name)}")
        if (self.queries is None) is not (self.passages is None):
            found.append("--queries and --passages belong together")
        from contrastok.eval.compare_methods import unknown_methods

        return found + unknown_methods(self.methods)


EVAL_COMMANDS: dict[str, type[Common]] = {
    "eval recovery": RecoveryConfig,
    "eval relatedness": RelatednessConfig,
    "eval retrieval": RetrievalConfig,
    "eval no-harm": NoHarmConfig,
    "eval generation": GenerationConfig,
    "compare": CompareConfig,
}
