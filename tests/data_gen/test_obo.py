from __future__ import annotations

from pathlib import Path

import obonet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastok.data_gen.obo import read_obo
from contrastok.data_gen.terms import Term
from contrastok.errors import InputError

CHEESES = Path(__file__).parent / "data" / "cheeses.obo"
ONTOLOGY = Path(__file__).parents[3] / "shared" / "data" / "disease_ontology" / "doid-2016-09-01.obo"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.obo"
    path.write_text(text, encoding="utf-8")
    return path


def messages(path: Path) -> list[str]:
    return [str(found) for found in read_obo(path) if isinstance(found, InputError)]


def test_every_clause_that_is_used_is_read_and_the_rest_left_out() -> None:
    assert list(read_obo(CHEESES)) == [
        Term(
            "halloumi",
            'A "squeaky" cheese ! fried, not melted (from Cyprus).',
            synonyms=("hellim",),
            broader=("brined cheese",),
            related=("grilling cheese", "squeak"),
            source=f"{CHEESES}:4",
        ),
        Term("brined cheese", source=f"{CHEESES}:19"),
    ]


def test_problems_name_the_line_and_the_term(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[Term]\nid: A:1\nname: x\ndef: no quotes\nsynonym: "open EXACT []\n\n'
        '[Term]\nname: y\n\n[Term]\nid: A:3\ndef: "z" []\n',
    )
    assert messages(path) == [
        f"{path}:4: def of A:1: expected text in double quotes, not 'no quotes'",
        f"{path}:5: synonym of A:1: expected text in double quotes, not '\"open EXACT []'",
        f"{path}:7: a [Term] without an id",
        f"{path}:10: the term A:3 has no name",
    ]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1))
def test_any_escaped_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    path = written(tmp_path_factory.mktemp("obo"), f'[Term]\nid: A:1\nname: x\ndef: "{quoted}" [] ! "more"\n')
    (term,) = read_obo(path)
    assert isinstance(term, Term)
    assert term.definition == text


def test_the_disease_ontology_reads_as_obonet_reads_it() -> None:
    if not ONTOLOGY.is_file():
        pytest.skip("../shared/data is missing")
    graph = obonet.read_obo(ONTOLOGY)
    terms = list(read_obo(ONTOLOGY))
    assert not [term for term in terms if isinstance(term, InputError)]
    ours = {term.token: term for term in terms if isinstance(term, Term)}
    assert len(terms) == len(graph) == 6971
    for node, data in graph.nodes(data=True):
        term = ours[data["name"]]
        parents = sorted(graph.nodes[parent]["name"] for parent in graph.successors(node))
        assert sorted(term.broader) == parents
        assert len(term.synonyms) == sum(" EXACT " in clause for clause in data.get("synonym", ()))
        assert len(term.related) == sum(" RELATED " in clause for clause in data.get("synonym", ()))
        assert bool(term.definition) == ("def" in data)
