from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from contrastok.errors import ConfigError, InputError
from contrastok.word_vectors import MIN_COUNT, read_word_vectors, train_word_vectors

ANY_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
# A word may hold spaces, but a part of it that reads as a number could not be told from the vector's.
PARTS = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Z")), min_size=1, max_size=6)
WORDS = st.lists(PARTS.filter(lambda part: not _number(part)), min_size=1, max_size=2).map(" ".join)


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@ANY_FOLDER
@given(data=st.data(), size=st.integers(1, 4), header=st.booleans(), packed=st.booleans(), spaced=st.booleans())
def test_what_was_written_is_read(
    tmp_path: Path, data: st.DataObject, size: int, header: bool, packed: bool, spaced: bool
) -> None:
    words = data.draw(st.lists(WORDS, min_size=1, max_size=5))
    words[0] = words[0].split(" ")[0] if not header else words[0]  # the first line tells the dimensions
    values = data.draw(arrays(np.float32, (len(words), size), elements=st.floats(-1e6, 1e6, width=32)))
    text = f"{len(words)} {size}\n" if header else ""
    text += "".join(
        f"{word} {' '.join(repr(float(v)) for v in row)}{' ' * spaced}\n"
        for word, row in zip(words, values, strict=True)
    )
    file = tmp_path / ("vectors.txt.gz" if packed else "vectors.txt")
    file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    found = list(read_word_vectors(file))
    assert [word for word, _ in found] == words
    assert np.array_equal(np.stack([vector for _, vector in found]), values)


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("a 1 2\nb 1\n", ":2", "2 numbers were expected after the word, not 1"),
        ("2 2\na 1 2\nb 1 2 3\n", ":3", "2 numbers were expected after the word, not 3"),
        ("a 1 2\nb 1 x\n", ":2", "not 0"),
        ("a 1 2\nb x 1\n", ":2", "not 1"),
        ("a 1 nan\n", ":1", "not finite"),
        ("a 1 2\n\nb 1 1e39\n", ":3", "not finite, or too large"),
        ("word\n", ":1", "numbers were expected after the word, not 0"),
        ("3 2\na 1 2\nb 3 4\n", "", "holds 2 word vectors, and its first line says 3"),
        ("", "", "holds no word vectors"),
        ("2 5\n", "", "holds no word vectors"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, where: str, said: str) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text(text)
    with pytest.raises(InputError, match=said) as told:
        list(read_word_vectors(file))
    assert str(told.value.where) == f"{file}{where}" and told.value.hint


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        list(read_word_vectors(tmp_path / "none.txt"))
    (tmp_path / "broken.gz").write_bytes(gzip.compress(b"a 1 2\n" * 100)[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        list(read_word_vectors(tmp_path / "broken.gz"))
    (tmp_path / "latin.txt").write_bytes(b"a 1\n\xe9 2\n")
    with pytest.raises(InputError, match="UTF-8") as told:
        list(read_word_vectors(tmp_path / "latin.txt"))
    assert str(told.value.where).endswith("latin.txt:2")


def test_training_without_gensim_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastok.word_vectors.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"gensim.*\n.*contrastok\[vectors\]"):
        list(train_word_vectors([["a"]], 0))


SENTENCES = [["the", "cook", "likes", food, "and", "bread"] for food in ("cheese", "cheddar") for _ in range(MIN_COUNT)]


def test_rare_words_get_no_vector() -> None:
    pytest.importorskip("gensim")
    assert list(train_word_vectors([["a", "b"]], 0)) == []
    found = dict(train_word_vectors([*SENTENCES, ["once"]], 0))
    assert set(found) == {"the", "cook", "likes", "and", "bread", "cheese", "cheddar"}


def test_words_in_like_contexts_get_like_vectors() -> None:
    pytest.importorskip("gensim")
    text = [[a, b, c] for a, c in (("cold", "drink"), ("sharp", "cut")) for b in WORDS_OF[a] for _ in range(300)]
    found = {word: v / np.linalg.norm(v) for word, v in train_word_vectors(text, 0)}
    near, far = found["milkoz"] @ found["waterub"], found["milkoz"] @ found["knifean"]
    assert near > 0.99 and far < 0.95


WORDS_OF = {"cold": ("milkoz", "waterub", "juiceli"), "sharp": ("knifean", "bladeto", "sawerim")}


def test_one_text_and_seed_give_one_result_in_any_process() -> None:
    pytest.importorskip("gensim")
    code = (
        "import hashlib; from contrastok.word_vectors import train_word_vectors as t;"
        f"print(hashlib.sha256(b''.join(w.encode() + v.tobytes() for w, v in t({SENTENCES!r}, 3))).hexdigest())"
    )
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    other = {**env, "PYTHONHASHSEED": "2"}
    told = [
        subprocess.run([sys.executable, "-c", code], env=e, capture_output=True, text=True, check=True).stdout
        for e in (env, other)
    ]
    assert told[0] == told[1] and len(told[0]) == 65
    one, two, three = (np.stack([v for _, v in train_word_vectors(SENTENCES, seed)]) for seed in (3, 3, 4))
    assert np.array_equal(one, two) and not np.array_equal(one, three)
