"""Is anything cut off before the model sees it?"""

from __future__ import annotations

from collections.abc import Iterator

from contrastok.doctor.case import Case
from contrastok.doctor.finding import Finding, State, check, named
from contrastok.models import transformer
from contrastok.vocabulary import encode_plain

NAME = "sequence limit"


@check(NAME)
def limit(case: Case) -> Iterator[Finding]:
    """Texts longer than the model reads, above all those whose term lies behind the cut."""
    longest = case.model.max_seq_length or 512
    config = transformer(case.model).config
    places = getattr(config, "max_position_embeddings", None)
    if places is not None and longest > places:
        detail = f"texts are cut after {longest:,} tokens, but the model has {places:,} positions"
        yield Finding(NAME, "problem", detail, "lower max_seq_length in the model's sentence_bert_config.json")
    room = longest - case.model.tokenizer.num_special_tokens_to_add()
    lost, texts = [], 0
    for term, sentences in case.sentences.items():
        ids = set(case.words.plan.ids_of(term))
        texts += len(sentences)
        encoded = zip(sentences, encode_plain(case.extended, sentences), strict=True)
        lost += [text for text, found in encoded if ids.isdisjoint(found[:room]) and not ids.isdisjoint(found)]
    others = [] if case.pairs is None else list(dict.fromkeys(case.pairs.positive))
    cut = sum(len(found) > room for found in encode_plain(case.words.base, others))
    if lost:
        detail = f"in {len(lost):,} of {texts:,} texts the term lies behind the first {longest:,} tokens"
        detail += named([repr(text) for text in lost])
        state: State = "problem" if len(lost) == texts else "warning"
        yield Finding(NAME, state, detail, "lower --max-words of gen-pairs")
    if cut:
        detail = f"{cut:,} of {len(others):,} positives are longer than {longest:,} tokens; their ends are not seen"
        yield Finding(NAME, "warning", detail, "shorten the definitions, or leave it: their beginnings count")
    if not lost and not cut:
        yield Finding(
            NAME, "ok", f"{texts + len(others):,} texts, none loses its term to the limit of {longest:,} tokens"
        )
