from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastok.data_gen.term_readers import LIST_FIELDS, TERM_READERS, read_terms
from contrastok.data_gen.terms import Term
from contrastok.errors import InputError

DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[3] / "shared" / "data" / "disease_ontology"


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def refused(*paths: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_terms(paths)
    return str(caught.value)


def test_jsonl_with_all_fields_nulls_and_unknown_keys(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "a.jsonl",
        "\n".join(
            [
                '{"token": " halloumi ", "definition": "a  brined\\ncheese", "synonyms": ["hellim", "", "hellim", "halloumi"],'
                ' "broader": ["cheese"], "related": null, "colour": "white"}',
                "",
                '{"token": "feta"}',
            ]
        ),
    )
    assert read_terms([path]) == [
        Term("halloumi", "a brined cheese", ("hellim",), ("cheese",), (), f"{path}:1"),
        Term("feta", source=f"{path}:3"),
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.CSV.gz"])
def test_csv_with_a_byte_order_mark_lists_and_line_breaks(tmp_path: Path, name: str) -> None:
    rows = ["\ufefftoken, definition ,synonyms", 'halloumi,"one, two\nthree",hellim| squeak |', "", "feta", ""]
    path = written(tmp_path, name, "\n".join(rows))
    assert read_terms([path]) == [
        Term("halloumi", "one, two three", ("hellim", "squeak"), source=f"{path}:2"),
        Term("feta", source=f"{path}:5"),
    ]


def test_special_tokens_are_said_to_be_some_and_have_marks(tmp_path: Path) -> None:
    lines = [
        '{"token": "<|tool|>", "special": true}',
        '{"token": "a", "special": false}',
        '{"token": "b", "special": null}',
    ]
    listed = written(tmp_path, "a.jsonl", "\n".join(lines))
    table = written(tmp_path, "a.csv", "token,special\n[x],True\n<|tool|>,\nc,false\n")
    found = {term.token: term.special for term in read_terms([listed, table])}
    assert found == {"<|tool|>": True, "a": False, "b": False, "[x]": True, "c": False}
    assert 'put marks around it, as in "<|tool|>"' in refused(
        written(tmp_path, "b.jsonl", '{"token": "tool", "special": true}')
    )
    for bad in (
        written(tmp_path, "c.jsonl", '{"token": "<a>", "special": 1}'),
        written(tmp_path, "c.csv", "token,special\n<a>,yes\n"),
    ):
        assert "special: expected true or false, not" in refused(bad)


def test_word_list_and_ontology(tmp_path: Path) -> None:
    words = written(tmp_path, "a.txt.gz", "# cheeses\n\nfeta\r\n  halloumi\n")
    terms = read_terms([words, DATA / "cheeses.obo"])
    assert [term.token for term in terms] == ["feta", "halloumi", "brined cheese"]
    assert terms[1].synonyms == ("hellim",)
    assert terms[1].source == f"{words}:4"


def test_the_same_token_in_two_files_is_joined_in_order(tmp_path: Path) -> None:
    first = written(tmp_path, "a.jsonl", '{"token": "feta", "synonyms": ["x", "y"]}\n{"token": "Feta"}')
    second = written(
        tmp_path,
        "b.jsonl",
        '{"token": "feta", "definition": "d", "synonyms": ["z", "x"]}\n{"token": "feta", "definition": "later"}',
    )
    assert read_terms([first, second]) == [
        Term("feta", "d", ("x", "y", "z"), source=f"{first}:1"),
        Term("Feta", source=f"{first}:2"),
    ]


def test_a_glossary_fills_only_what_is_missing(tmp_path: Path) -> None:
    terms = written(tmp_path, "a.jsonl", '{"token": "Hellim", "broader": ["food"]}\n{"token": "unknown"}')
    glossary = written(
        tmp_path,
        "b.jsonl",
        '{"token": "halloumi", "definition": "d", "synonyms": ["hellim", "h"], "broader": ["cheese"]}',
    )
    later = written(tmp_path, "c.jsonl", '{"token": "hellim", "definition": "other", "related": ["grill"]}')
    assert read_terms([terms], glossary=[glossary, later]) == [
        Term("Hellim", "d", ("halloumi", "h"), ("food",), ("grill",), f"{terms}:1"),
        Term("unknown", source=f"{terms}:2"),
    ]


def test_an_entry_of_the_word_itself_goes_before_one_that_has_it_as_a_synonym(tmp_path: Path) -> None:
    glossary = written(
        tmp_path,
        "b.jsonl",
        '{"token": "a", "definition": "of a", "synonyms": ["b"]}\n{"token": "B", "definition": "of b"}',
    )
    (term,) = read_terms([written(tmp_path, "a.txt", "b")], glossary=[glossary])
    assert term.definition == "of b"


def test_a_wordnet_folder_is_a_glossary(tmp_path: Path) -> None:
    (term,) = read_terms([written(tmp_path, "a.txt", "cheese")], glossary=[DATA / "wordnet"])
    assert term.definition == "a solid made of pressed curds"
    with pytest.raises(InputError, match="is no WordNet database"):
        read_terms([tmp_path / "a.txt"], glossary=[tmp_path])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"token": "a"', "2: unreadable JSON at column 14: Expecting ',' delimiter"),
        ("[" * 100_000, "2: unreadable JSON: "),
        ("1" * 5_000, "2: unreadable JSON: Exceeds the limit"),
        ('["a"]', "2: expected a JSON object, not a list"),
        ('{"token": ""}', "2: a term without text\n  -> its token is empty"),
        ('{"token": null}', "2: token: expected a string, not null"),
        ('{"token": "\\ud800"}', "2: the token '\ufffd' holds what is no character"),
        ('{"definition": "d"}', "2: a term without text\n  -> each term needs the field 'token'"),
        ('{"Word": "d"}', "2: a term without text\n  -> rename the field 'Word' to 'token'"),
        ('{"tokn": "d"}', "2: a term without text\n  -> rename the field 'tokn' to 'token'"),
        ('{"token": "a", "definition": ["d"]}', "2: definition: expected a string, not a list"),
        ('{"token": "a", "synonyms": "b"}', "2: synonyms: expected a list of strings, not text"),
        ('{"token": "a", "related": ["b", 1]}', "2: related: expected a list of strings, not one with a number in it"),
    ],
)
def test_each_problem_of_a_json_line(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path, "a.jsonl", f'{{"token": "fine"}}\n{line}\n')
    assert f"{path}:{message}" in refused(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name,definition\na,b\nc,d\n",
            "1: a header without the column 'token'\n  -> rename the field 'name' to 'token'",
        ),
        ("token,definition\na,b,c\n", "2: 3 fields where the header has 2\n  -> a field with a comma"),
        ('token\n"a\n', "2: unreadable CSV: unexpected end of data"),
        ('token\n"a"b\n', "2: unreadable CSV: "),
        ("token,broader\n ,b\n", "2: a term without text"),
    ],
)
def test_each_problem_of_a_csv_row(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, "a.csv", text)
    assert f"{path}:{message}" in refused(path)


@pytest.mark.parametrize(("mark", "name"), [(";", "';'"), ("\t", "tabs")])
def test_another_separator_than_the_comma_is_told_once(tmp_path: Path, mark: str, name: str) -> None:
    path = written(tmp_path, "a.csv", f"token{mark}definition\nyurt{mark}a tent, round\ntipi{mark}a tent\n")
    assert refused(path) == (
        f"{path}:1: its fields seem to be separated by {name}, not by commas\n  -> save it with the comma as separator"
    )


def test_a_misspelled_field_is_told_and_one_of_another_name_is_not(tmp_path: Path) -> None:
    listed = written(tmp_path, "a.jsonl", '{"token": "a"}\n{"token": "b", "defintion": "c", "Synonym": ["d"]}')
    shown = refused(listed)
    assert f"{listed}:2: unknown field 'defintion' (did you mean 'definition'?)" in shown
    assert f"{listed}:2: unknown field 'Synonym' (did you mean 'synonyms'?)" in shown
    table = written(tmp_path, "a.csv", "token,defintion\na,b\nc,d\n")
    assert refused(table) == f"{table}:1: unknown field 'defintion'\n  -> did you mean 'definition'?"
    other = written(tmp_path, "b.jsonl", '{"token": "a", "tokens": 3, "specialty": "b", "relation": "c", "id": 1}')
    assert read_terms([other]) == [Term("a", source=f"{other}:1")]


def test_wrong_encoding_names_the_line_and_the_way_out(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "fine\ncaf\u00e9\n".encode("latin-1"))
    assert refused(path) == (
        f"{path}:2: is not UTF-8 text (byte 0xe9 at position 4 of the line)\n"
        f"  -> convert it, for example: iconv -f WINDOWS-1252 -t UTF-8 {path} > converted.txt"
    )
    assert "iconv -f UTF-16" in refused(written(tmp_path, "b.csv", "token\na".encode("utf-16")))
    packed = written(tmp_path, "c.txt.gz", b"\xe9")
    assert f"gunzip -c {packed} | iconv -f WINDOWS-1252 -t UTF-8 > converted.txt" in refused(packed)


def test_files_that_are_missing_empty_unknown_or_broken(tmp_path: Path) -> None:
    real = written(tmp_path, "terms.jsonl", "\n")
    assert refused(real) == f"{real}: holds no terms"
    assert refused(tmp_path / "term.jsonl") == (
        f"{tmp_path / 'term.jsonl'}: no such file or folder\n  -> did you mean {str(real)!r}?"
    )
    assert "there is no folder" in refused(tmp_path / "no" / "a.txt")
    assert "is a folder where a file is expected" in refused(tmp_path)
    odd = written(tmp_path, "a.docx", "a")
    assert f"{odd}: no reader for '.docx' files\n  -> known: .jsonl, .csv, .txt, .obo" in refused(odd)
    assert "no suffix that says what kind of file" in refused(written(tmp_path, "words", "a"))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"abc" * 100)[:-9])
    assert "a.txt.gz: cannot be read (" in refused(tmp_path / "a.txt.gz")
    (tmp_path / "b.txt.gz").write_bytes(b"plain")
    assert "b.txt.gz: cannot be read (Not a gzipped file" in refused(tmp_path / "b.txt.gz")
    with pytest.raises(InputError, match="no file of terms was given"):
        read_terms([])


def test_all_problems_of_all_files_come_in_one_message(tmp_path: Path) -> None:
    first = written(tmp_path, "a.jsonl", '{"token": 1, "broader": 2}\n{"token": "fine"}\n{}\n')
    glossary = written(tmp_path, "b.txt", "")
    with pytest.raises(InputError) as caught:
        read_terms([first, tmp_path / "c.csv"], glossary=[glossary])
    assert str(caught.value).splitlines() == [
        "5 problems:",
        f"  - {first}:1: token: expected a string, not a number",
        f"  - {first}:1: broader: expected a list of strings, not a number",
        f"  - {first}:3: a term without text (each term needs the field 'token')",
        f"  - {tmp_path / 'c.csv'}: no such file or folder (check the name; it was looked for in {str(tmp_path)!r})",
        f"  - {glossary}: holds no terms",
    ]


def test_a_long_list_of_problems_is_cut(tmp_path: Path) -> None:
    listed = refused(written(tmp_path, "a.jsonl", "{}\n" * 352)).splitlines()
    assert (listed[0], listed[-1], len(listed)) == ("352 problems:", "  - ... and 332 more", 22)


def test_the_published_disease_terms_need_one_field_renamed(tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("../shared/data is missing")
    source = SHARED / "disease_terms.jsonl"
    assert f"{source}:1: a term without text (rename the field 'word' to 'token')" in refused(source)
    renamed = written(tmp_path, "a.jsonl", source.read_text(encoding="utf-8").replace('"word":', '"token":'))
    terms = read_terms([renamed], glossary=[SHARED / "doid-2016-09-01.obo"])
    assert len(terms) == 352
    assert sum(bool(term.broader) for term in terms) > 200


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="|\ufffd"), min_size=1).filter(
    lambda text: text == " ".join(text.split())
)
TERMS = st.builds(
    lambda token, definition, names: Term(
        token, definition, *(tuple(dict.fromkeys(n for n in group if n != token)) for group in names)
    ),
    WORDS,
    st.just("") | WORDS,
    st.tuples(*[st.lists(WORDS, max_size=3)] * len(LIST_FIELDS)),
)
GLOSSARIES = st.lists(TERMS, min_size=1, max_size=5, unique_by=lambda term: term.token)


def as_jsonl(path: Path, terms: list[Term]) -> None:
    names = ("token", "definition", *LIST_FIELDS)
    path.write_text("".join(json.dumps({n: getattr(t, n) for n in names}) + "\n" for t in terms), encoding="utf-8")


def as_csv(path: Path, terms: list[Term]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["token", "definition", *LIST_FIELDS])
        table.writerows([t.token, t.definition, *("|".join(getattr(t, n)) for n in LIST_FIELDS)] for t in terms)


@pytest.mark.parametrize(("suffix", "write"), [(".jsonl", as_jsonl), (".csv", as_csv)])
@given(terms=GLOSSARIES)
def test_terms_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    write: object,
    terms: list[Term],
) -> None:
    path = tmp_path_factory.mktemp("terms") / f"a{suffix}"
    assert callable(write)
    write(path, terms)
    assert [replace(term, source="") for term in read_terms([path])] == terms


@pytest.mark.parametrize("kind", list(TERM_READERS))
@given(content=st.binary() | st.text('{}[]":,\\nul token|defidsynom_a[Term]\n\r\t\x00\u2028').map(str.encode))
def test_arbitrary_bytes_give_terms_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    content: bytes,
) -> None:
    path = written(tmp_path_factory.mktemp("bytes"), f"a{kind}", content)
    try:
        assert all(term.token for term in read_terms([path]))
    except InputError as error:
        assert str(path) in str(error)
