"""WordNet's database files, read where they lie: wndb(5WN), wordnet.princeton.edu/documentation/wndb5wn.

A folder such as /usr/share/wordnet holds, for each part of speech, a sorted index of words (index.noun, ...)
with byte offsets into a file of synsets (data.noun, ...). Both are mapped, not read: a look-up bisects.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from contrastok.data_gen.terms import Term
from contrastok.data_gen.text_files import missing, unreadable
from contrastok.errors import InputError

PARTS_OF_SPEECH = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_BROADER = {"@", "@i"}  # hypernym, and the class of which this is an instance
_NARROWER = {"~", "~i"}
_RELATED = {"&", "+", "\\"}  # similar adjective, derivationally related form, pertainym
_EXAMPLE = re.compile(r'"([^"]*)"')
_FIRST_EXAMPLE = re.compile(r'(?:^|[;:,]|(?<=\)))\s*"')  # a quotation in the definition has a word before it
_MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may stand: galore(ip)


@dataclass(frozen=True)
class Pointer:
    """From a synset to a related one; `source` and `target` number the linked words from 1, 0 means all."""

    symbol: str
    part: str
    offset: int
    source: int
    target: int


@dataclass(frozen=True)
class Synset:
    """Words of one meaning, with underscores as spaces, and the two halves of its gloss."""

    lemmas: tuple[str, ...]
    pointers: tuple[Pointer, ...]
    definition: str
    examples: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The definition, and the examples without their quotation marks."""
        return (self.definition, *self.examples)

    def places(self, symbols: Collection[str]) -> list[tuple[str, int]]:
        """Part of speech and offset of the synsets to which pointers of these kinds lead."""
        return [(pointer.part, pointer.offset) for pointer in self.pointers if pointer.symbol in symbols]


class WordNet:
    """A glossary over a WordNet database folder.

    Args:
        folder: holds index.X and data.X for at least one of noun, verb, adj and adv.

    Attributes:
        folder: the same.

    Raises:
        InputError: there is no such folder, or no pair of files in it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.exists():
            raise missing(folder)
        self.folder = folder
        parts = _parts_in(folder)
        if not parts:
            raise InputError(
                "is no WordNet database",
                where=folder,
                hint="it should hold index.noun, data.noun and so on (Debian: wordnet-base)",
            )
        self._indices = {part: _mapped(folder / f"index.{name}") for part, name in parts.items()}
        self._synsets = {part: _mapped(folder / f"data.{name}") for part, name in parts.items()}

    def lookup(self, word: str) -> Term | None:
        """The first (most frequent) sense of a word, nouns before verbs, adjectives and adverbs; or None.

        Synonyms are the other words of that synset, broader names the words of its hypernyms, related names
        the words of similar adjectives and the derivationally related forms.
        """
        first = self._first(word)
        return None if first is None else self._term(word, *first)

    def senses(self, word: str) -> str:
        """The part of speech of each synset that holds a word, nouns first, as letters ("nnv"); "" for others."""
        found = [(part, _find(index, _key(word))) for part, index in self._indices.items() if _key(word)]
        return "".join(part * len(self._offsets(line, part)) for part, line in found if line is not None)

    def family(self, word: str) -> tuple[str, ...]:
        """The nearest kin of a word in its first sense: its synonyms, hypernyms, hyponyms and co-hyponyms.

        Co-hyponyms are the hyponyms of its hypernyms; classes and instances count as hypernyms and hyponyms.
        """
        first = self._first(word)
        if first is None:
            return ()
        own = self._synset(*first)
        above = [self._synset(*place) for place in own.places(_BROADER)]
        kin = {place: None for synset in (own, *above) for place in synset.places(_NARROWER)}
        lemmas = (
            lemma for synset in (own, *above, *(self._synset(*place) for place in kin)) for lemma in synset.lemmas
        )
        spelled = _key(word)
        return tuple(dict.fromkeys(lemma for lemma in lemmas if _key(lemma) != spelled))

    def _first(self, word: str) -> tuple[str, int] | None:
        """Where the first sense of a word lies: its part of speech and offset."""
        for part, index in self._indices.items():
            line = _find(index, _key(word)) if _key(word) else None
            if line is not None:
                return part, self._offsets(line, part)[0]
        return None

    def words(self) -> Iterator[str]:
        """Every word of the indices, lower case, once for each part of speech."""
        for index in self._indices.values():
            for _, line in _entries(index):
                yield line.split(b" ", 1)[0].decode(errors="replace").replace("_", " ")

    def synsets(self) -> Iterator[Synset]:
        """Every synset in the order of the files."""
        return (synset for _, synset in self.placed_synsets())

    def placed_synsets(self) -> Iterator[tuple[str, Synset]]:
        """Every synset, with where it stands (`file: byte n`)."""
        for part, data in self._synsets.items():
            for offset, line in _entries(data):
                yield self._place(part, offset), self._parsed(line, part, offset)

    def _offsets(self, line: bytes, part: str) -> list[int]:
        # lemma pos synset_cnt p_cnt [ptr_symbol...] sense_cnt tagsense_cnt synset_offset...
        fields = line.split()
        try:
            return [int(offset) for offset in fields[-int(fields[2]) :]]
        except (ValueError, IndexError):
            raise InputError(
                f"no entry of a WordNet index: {line[:40].decode(errors='replace')!r}",
                where=self.folder / f"index.{PARTS_OF_SPEECH[part]}",
            ) from None

    def _synset(self, part: str, offset: int) -> Synset:
        data = self._synsets.get(part, b"")
        end = data.find(b"\n", offset)
        return self._parsed(data[offset : end if end >= 0 else len(data)], part, offset)

    def _parsed(self, line: bytes, part: str, offset: int) -> Synset:
        try:
            if int(line[:8]) == offset:
                return _parse(line.decode())
        except (ValueError, IndexError):
            pass
        raise InputError(
            "no synset of a WordNet database starts here",
            where=self._place(part, offset),
            hint="index and data files belong to one version, and are not edited",
        )

    def _place(self, part: str, offset: int) -> str:
        return f"{self.folder / f'data.{PARTS_OF_SPEECH.get(part, part)}'}: byte {offset}"

    def _term(self, word: str, part: str, offset: int) -> Term:
        synset = self._synset(part, offset)
        own = " ".join(word.replace("_", " ").split()).casefold()
        number = next((n for n, lemma in enumerate(synset.lemmas, 1) if lemma.casefold() == own), 0)
        broader: dict[str, None] = {}
        related: dict[str, None] = {}
        for pointer in synset.pointers:
            names = broader if pointer.symbol in _BROADER else related if pointer.symbol in _RELATED else None
            if names is not None and pointer.source in (0, number):
                lemmas = self._synset(pointer.part, pointer.offset).lemmas
                linked = lemmas[pointer.target - 1 : pointer.target] if pointer.target else lemmas
                names.update(dict.fromkeys(linked))
        return Term(
            token=word,
            definition=synset.definition,
            synonyms=tuple(lemma for lemma in synset.lemmas if lemma.casefold() != own),
            broader=tuple(broader),
            related=tuple(name for name in related if name.casefold() != own),
            source=self._place(part, offset),
        )


def is_database(folder: Path) -> bool:
    """Whether a folder holds WordNet's files for at least one part of speech."""
    return bool(_parts_in(folder))


def data_files(folder: Path) -> list[Path]:
    """The files of a database that hold its texts."""
    return [folder / f"data.{name}" for name in _parts_in(folder).values()]


def _parts_in(folder: Path) -> dict[str, str]:
    return {
        part: name
        for part, name in PARTS_OF_SPEECH.items()
        if (folder / f"data.{name}").is_file() and (folder / f"index.{name}").is_file()
    }


def _key(word: str) -> bytes:
    """A word as the indices spell it."""
    return "_".join(word.lower().split()).encode()


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as handle:
            return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise InputError("is empty", where=path) from None
    except OSError as error:
        raise unreadable(path, error) from None


def _entries(mapped: mmap.mmap) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, each with its offset, but for the licence, whose lines start with a space."""
    start = 0
    while start < len(mapped):
        end = mapped.find(b"\n", start) + 1 or len(mapped)
        if mapped[start : start + 1] != b" ":
            yield start, mapped[start:end]
        start = end


def _find(index: mmap.mmap, key: bytes) -> bytes | None:
    """The line whose first field is `key`, by bisection over the bytes of a sorted file."""
    low, high = 0, len(index)  # both always at the start of a line
    while low < high:
        middle = (low + high) // 2
        start = index.rfind(b"\n", low, middle) + 1 or low
        end = index.find(b"\n", middle) + 1 or len(index)
        line = index[start:end]
        found = line.split(b" ", 1)[0]
        if found == key:
            return line
        low, high = (end, high) if found < key else (low, start)
    return None


def _parse(line: str) -> Synset:
    """One line of a data file; ValueError or IndexError when it is none.

    offset lex_filenum ss_type w_cnt(hex) [word lex_id]... p_cnt [symbol offset pos source/target]... | gloss
    """
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    words_end = 4 + 2 * int(fields[3], 16)
    lemmas = tuple(_MARKER.sub("", word).replace("_", " ") for word in fields[4:words_end:2])
    pointers = tuple(
        Pointer(
            fields[at],
            "a" if fields[at + 2] == "s" else fields[at + 2],
            int(fields[at + 1]),
            int(fields[at + 3][:2], 16),
            int(fields[at + 3][2:], 16),
        )
        for at in range(words_end + 1, words_end + 1 + 4 * int(fields[words_end]), 4)
    )
    first = _FIRST_EXAMPLE.search(gloss)
    definition = gloss[: first.start()] if first else gloss
    return Synset(lemmas, pointers, definition.strip(" ;\n"), tuple(_EXAMPLE.findall(gloss)))
