"""Rows of a language model: words that it knows are hidden, taught anew in several ways, and asked back.

    python examples/decoder/pretrain.py --corpus ../shared/data/medquad/medquad.jsonl.gz --text-field answer --out LM
    python -m benchmarks.decoder --model LM [--words 200] [--epochs 3] [--json FILE]

The words are drawn from the answers of MedQuAD and looked up in WordNet. Every method learns from the same sentences, at most
12 for each word, none of them from the texts that LM was not trained on (LM/held-out.jsonl). On these it is then asked: does the
old row come back, is the new token said where it stands, and how well is the text predicted, against the model that splits
the words and the model that always knew them. PEFT's Trainable Tokens learn at three rates; the best by the text that was
held out is shown, which favours them. A run that was stopped goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.hidden_words import Lesson, draw_from, hidden_words, medquad_answers
from benchmarks.markdown import cell, table
from contrastok.checkpoint import Checkpoint, load_checkpoint
from contrastok.console import Console
from contrastok.eval.baselines import TRAINED
from contrastok.eval.generation_measure import measure_generation
from contrastok.eval.recovery import train_config
from contrastok.eval.recovery_measure import measure
from contrastok.eval.told import TOKENS, Text, read_text, tell
from contrastok.files import atomic_file, to_json
from contrastok.lm_head import load_with_head
from contrastok.loop import spread
from contrastok.models import input_embedding, tokenizer_fingerprint
from contrastok.pairs import read_pairs
from contrastok.story import versions
from contrastok.trainer import train

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PIECES = {"init": "subtoken_mean"}
PREDICTED = {"init": "predictor"}
METHODS: dict[str, dict[str, Any]] = {
    "mean of the pieces": {**PIECES, "epochs": 0},
    "mean of the pieces, causal_lm": {**PIECES, "objective": "causal_lm"},
    "mean of the pieces, token_distill": {**PIECES, "objective": "token_distill"},
    "mean of the pieces, token_distill_lm": {**PIECES, "objective": "token_distill_lm"},
    "predictor": {**PREDICTED, "epochs": 0},
    "predictor, causal_lm": {**PREDICTED, "objective": "causal_lm"},
    "predictor, token_distill_lm": {**PREDICTED, "objective": "token_distill_lm"},
}
"""What is trained: options of train."""
PEFT = "mean of the pieces, PEFT Trainable Tokens"
PEFT_RATES = (0.01, 0.03, 0.1)
"""AdamW's steps, as shares of the table's standard deviation; train's own default is 0.06 without a predictor."""
BATCH = 32
TEXTS = 150
"""So many held-out texts with a word, the first ones, and so many without, are read."""


def held_out(model: Path) -> list[str]:
    """The texts that the model was not trained on."""
    with (model / "held-out.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def run(
    model: Path, words: int, epochs: int, seed: int, done: Sequence[dict[str, Any]], console: Console
) -> Iterator[dict[str, Any]]:
    """Yields the line of each method, those that are done as they are."""
    kept = {found["name"]: found for found in done}
    held = held_out(model)
    own = set(held)
    source = partial(draw_from, [text for text in medquad_answers() if text not in own])
    with hidden_words(source, str(model), words, [seed], console) as lesson:
        for name, options in METHODS.items():
            if name in kept:
                yield kept[name]
                continue
            console.print(f"[bold]{name}[/]")
            checkpoint = taught(lesson, {"epochs": epochs, **options})
            yield line(name, checkpoint, lesson, held, console)
        if PEFT in kept:
            yield kept[PEFT]
            return
        start = taught(lesson, METHODS["mean of the pieces"])
        console.print(f"[bold]{PEFT}[/]")
        tried = []
        for rate in PEFT_RATES:
            with trained_by_peft(start, lesson, rate, epochs, seed) as checkpoint:
                tried.append({**line(PEFT, checkpoint, lesson, held, console), "rate": rate})
        yield min(tried, key=lambda found: found["perplexity"]["with_new_token"]["result"])


def taught(lesson: Lesson, options: dict[str, Any]) -> Checkpoint:
    """What train makes of the words."""
    train(train_config(lesson.config, lesson.work, token_mode="vocab", batch_size=BATCH, **options))
    return load_checkpoint(lesson.work / "model")


def line(name: str, checkpoint: Checkpoint, lesson: Lesson, held: Sequence[str], console: Console) -> dict[str, Any]:
    """All figures of one method."""
    base, knows = load_with_head(str(lesson.prepared.base)), load_with_head(lesson.prepared.model)
    texts = [read_text(text, base.tokenizer, checkpoint.tokenizer, TOKENS) for text in held]
    new = {i for token in checkpoint.manifest["tokens"] for i in token["ids"]}
    holding = [text for text in texts if text.bytes > 0 and new.intersection(text.new.ids)][:TEXTS]
    clean = [text for text in texts if text.bytes > 0 and not new.intersection(text.new.ids)][:TEXTS]
    said = measure_generation(checkpoint, base, [*holding, *clean], 0, console)
    said["perplexity_per_byte"]["with_new_token"]["oracle"] = oracle(knows, holding)
    return {
        "name": name,
        "recovery": measure(checkpoint, lesson.prepared, 0, console)["trained"],
        "said": said["ranks"]["views"][TRAINED],
        "perplexity": said["perplexity_per_byte"],
        "clean_texts": {"texts": len(clean), **{name: said[name] for name in ("ids_changed", "logits_changed")}},
    }


def oracle(model: SentenceTransformer, texts: Sequence[Text]) -> float:
    """Perplexity per byte of the model that always knew the words, over the same text."""
    own = [read_text(text.text, model.tokenizer, model.tokenizer, TOKENS) for text in texts]
    (told,), _ = tell([model], [text.old.ids for text in own])
    nats = sum(float(t.nats[o.old.scored(text.start)].sum()) for text, o, t in zip(texts, own, told, strict=True))
    return math.exp(nats / sum(text.bytes for text in texts))


@contextlib.contextmanager
def trained_by_peft(start: Checkpoint, lesson: Lesson, rate: float, epochs: int, seed: int) -> Iterator[Checkpoint]:
    """The checkpoint with the rows that PEFT's Trainable Tokens and AdamW make of its own, from the same sentences."""
    from peft import TrainableTokensConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    ids = [i for token in start.manifest["tokens"] for i in token["ids"]]
    plain = AutoModelForCausalLM.from_pretrained(start.path)
    name = next(n.split(".")[-1] for n, m in plain.named_modules() if m is plain.get_input_embeddings())
    model = get_peft_model(plain, TrainableTokensConfig(token_indices=ids, target_modules=[name]))
    size = rate * spread(input_embedding(start.model).weight)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=size, eps=1e-12)
    texts = list(dict.fromkeys(read_pairs(lesson.prepared.pairs, tokenizer_fingerprint(start.base_tokenizer)).anchor))
    batches = [batch for _ in range(epochs) for batch in shuffled(texts, BATCH)]
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = size * (1 - step / len(batches))
        read = start.tokenizer(batch, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt")
        labels = read["input_ids"].masked_fill(read["attention_mask"] == 0, -100)
        model(input_ids=read["input_ids"], attention_mask=read["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    merged = model.merge_and_unload().get_input_embeddings().weight.detach()
    tokens = sorted(start.manifest["tokens"], key=lambda token: token["row"])
    rows = np.stack([merged[running_form(start, token)].float().numpy() for token in tokens])
    with start.with_rows(rows):
        yield dataclasses.replace(start, rows=rows)


def running_form(start: Checkpoint, token: Mapping[str, Any]) -> int:
    """The id that a term has behind a space: PEFT trains each of its forms apart, and a term has one row here."""
    read: list[int] = start.tokenizer(f"a {token['token']}", add_special_tokens=False)["input_ids"]
    return next(i for i in read if i in token["ids"])


def shuffled(texts: Sequence[str], size: int) -> list[list[str]]:
    """Batches in the order of torch's generator."""
    order = torch.randperm(len(texts)).tolist()
    return [[texts[i] for i in order[at : at + size]] for at in range(0, len(order), size)]


COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "row MRR": lambda found: cell(found["recovery"], "mrr"),
    "hit@10": lambda found: cell(found["recovery"], "hit@10"),
    "median rank": lambda found: cell(found["recovery"], "median_rank", interval=False),
    "new token said: MRR": lambda found: cell(found["said"], "mrr"),
    "perplexity per byte": lambda found: f"{found['perplexity']['with_new_token']['result']:.4f}",
}


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    asked = (arguments.model, arguments.words, arguments.epochs, arguments.seed)
    facts = {"versions": versions(), **dict(zip(("words", "epochs", "seed"), asked[1:], strict=True))}
    done = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
    same = all(done.get(name) == value for name, value in facts.items())
    lines = []
    for found in run(*asked, done["table"] if same else (), Console(arguments.quiet)):
        lines.append(found)
        if arguments.json:  # anew after each method: what is done is not lost
            with atomic_file(arguments.json) as file:
                file.write_text(to_json({**facts, "table": lines}))
    print(table(["", *COLUMNS], [[found["name"], *(told(found) for told in COLUMNS.values())] for found in lines]))
    own = lines[0]["perplexity"]["with_new_token"]
    print(
        f"\n{own['texts']:,} held-out texts with such a word: perplexity per byte {own['base']:.4f} of the model that "
        f"splits the words, {own['oracle']:.4f} of the one that always knew them."
    )


if __name__ == "__main__":
    main()
