"""Train a small decoder from scratch, to try contrastok's language-model side on a model that has learned something.

    python examples/decoder/pretrain.py --corpus TEXTS... --out FOLDER [--text-field text] [--epochs 1] [--width 256]

A byte-level BPE tokenizer and a Llama of a few million parameters, both trained on the corpus (whatever gen-pairs reads
as one). Every twentieth document is kept out and written to FOLDER/held-out.jsonl, for `contrastok eval generation`. A
run that was stopped goes on from its last saved state when the same command is given again. It takes minutes on a GPU,
and for 20 MB an hour or more on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import Dataset
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from contrastok.data_gen.corpus import read_corpus

END = "<|endoftext|>"
HELD_OUT = 20
"""One document in so many is kept out of training."""


class Windows(Dataset[dict[str, torch.Tensor]]):
    """A stream of ids, cut into windows of one length: `[N, T]` int64, each its own labels."""

    def __init__(self, ids: Sequence[int], length: int) -> None:
        count = len(ids) // length
        self.windows = torch.tensor(ids[: count * length]).view(count, length)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.windows[index], "labels": self.windows[index]}


def main() -> None:
    """Split the corpus, learn the tokenizer, train the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", nargs="+", required=True)
    parser.add_argument("--text-field", default="text")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--length", type=int, default=128, help="tokens of a window")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--untied", action="store_true", help="a head with a table of its own")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    texts, held = split(arguments.corpus, arguments.text_field)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "held-out.jsonl").open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps({"text": text}) + "\n" for text in held)
    tokenizer = learn_tokenizer(texts, arguments.vocabulary, arguments.length)
    train(make_model(arguments, len(tokenizer)), tokenizer, texts, arguments)


def split(corpus: Sequence[str], text_field: str) -> tuple[list[str], list[str]]:
    """What is trained on and what is held out; each text once, so that nothing held out is trained on."""
    texts = list(dict.fromkeys(document.text for document in read_corpus(corpus, text_field)))
    return [t for i, t in enumerate(texts) if i % HELD_OUT], texts[::HELD_OUT]


def learn_tokenizer(texts: Sequence[str], size: int, length: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2 and its successors have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, model_max_length=4 * length
    )


def make_model(arguments: argparse.Namespace, vocabulary: int) -> PreTrainedModel:
    """A Llama with random weights."""
    torch.manual_seed(arguments.seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=arguments.width,
        intermediate_size=8 * arguments.width // 3,
        num_hidden_layers=arguments.layers,
        num_attention_heads=max(1, arguments.width // 64),
        num_key_value_heads=max(1, arguments.width // 64),
        max_position_embeddings=4 * arguments.length,
        tie_word_embeddings=not arguments.untied,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def train(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], arguments: argparse.Namespace
) -> None:
    """Train, save model and tokenizer, and remove the states that were kept in case of a stop."""
    windows = Windows(list(ids_of(texts, tokenizer)), arguments.length)
    steps = int(arguments.epochs * len(windows) / arguments.batch_size)
    states = arguments.out / "states"
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(states),
            per_device_train_batch_size=arguments.batch_size,
            max_steps=steps,
            learning_rate=arguments.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=steps // 50,
            weight_decay=0.1,
            adam_beta2=0.95,
            bf16=torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            logging_steps=50,
            save_steps=100,
            save_total_limit=1,
            report_to=[],
            seed=arguments.seed,
        ),
        train_dataset=windows,
        data_collator=default_data_collator,
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters:,} parameters, {windows.windows.numel():,} tokens, {steps:,} steps")
    trainer.train(resume_from_checkpoint=any(states.glob("checkpoint-*")) or None)
    model.save_pretrained(arguments.out)  # Trainer.save_model would add a pickle of its options
    tokenizer.save_pretrained(arguments.out)
    shutil.rmtree(states, ignore_errors=True)


def ids_of(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> Iterator[int]:
    """The ids of all texts, one after another, each behind the end-of-text token."""
    for start in range(0, len(texts), 1000):
        for ids in tokenizer(list(texts[start : start + 1000]), verbose=False)["input_ids"]:
            yield tokenizer.bos_token_id
            yield from ids


if __name__ == "__main__":
    main()
