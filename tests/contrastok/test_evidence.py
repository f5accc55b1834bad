from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastok.data_gen.writer import write_evidence
from contrastok.errors import InputError
from contrastok.evidence import EVIDENCE_FILE, WordEvidence, read_evidence
from contrastok.files import sha256_file

NAMES = st.lists(st.text(), max_size=3).map(tuple)
WORDS = st.lists(
    st.builds(
        WordEvidence,
        token=st.text(),
        known=st.booleans(),
        definition=st.text(),
        synonyms=NAMES,
        broader=NAMES,
        sentences=NAMES,
    ),
    max_size=6,
)
WORD = WordEvidence("brie", True, "a cheese", (), ("cheese",), ("we eat brie", "brie melts"))


def put(folder: Path, words: list[WordEvidence]) -> str:
    """Write the evidence, and a pairs.json that names it; returns the hash."""
    write_evidence(folder / EVIDENCE_FILE, words)
    digest = sha256_file(folder / EVIDENCE_FILE)
    (folder / "pairs.json").write_text(json.dumps({"evidence": {"sha256": digest}}))
    return digest


@given(words=WORDS)
@settings(max_examples=40)
def test_what_is_written_is_read_again_and_the_bytes_are_the_same(words: list[WordEvidence]) -> None:
    with TemporaryDirectory() as one, TemporaryDirectory() as two:
        digests = [put(Path(folder), words) for folder in (one, two)]
        first, again = ((Path(folder) / EVIDENCE_FILE).read_bytes() for folder in (one, two))
        assert first == again and digests == [hashlib.sha256(first).hexdigest()] * 2
        assert read_evidence(Path(one)) == tuple(words)
        assert read_evidence(Path(one) / "pairs.parquet") == tuple(words)


def test_pairs_without_evidence_have_none(tmp_path: Path) -> None:
    assert read_evidence(tmp_path) is None
    (tmp_path / "pairs.json").write_text("{}")
    assert read_evidence(tmp_path) is None


def test_evidence_that_changed_or_went_is_refused(tmp_path: Path) -> None:
    put(tmp_path, [WORD])
    about = (tmp_path / "pairs.json").read_text()
    (tmp_path / EVIDENCE_FILE).unlink()
    with pytest.raises(InputError, match="no such file"):
        read_evidence(tmp_path)
    put(tmp_path, [WORD, WORD])
    (tmp_path / "pairs.json").write_text(about)
    with pytest.raises(InputError, match="changed after it was written"):
        read_evidence(tmp_path)
    (tmp_path / "pairs.json").write_text("{")
    with pytest.raises(InputError, match="no JSON"):
        read_evidence(tmp_path)
    (tmp_path / EVIDENCE_FILE).write_bytes(b"PAR1")
    (tmp_path / "pairs.json").write_text(json.dumps({"evidence": {"sha256": sha256_file(tmp_path / EVIDENCE_FILE)}}))
    with pytest.raises(InputError, match="no readable parquet"):
        read_evidence(tmp_path)
