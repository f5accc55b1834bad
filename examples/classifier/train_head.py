"""Train a classification head on a frozen MiniLM: a stand-in for the classifier that you have.

    python examples/classifier/train_head.py --messages examples/classifier/messages.csv --out classifier/

It writes what any fine-tuning script writes: a folder for `AutoModelForSequenceClassification` and its tokenizer.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from contrastok.models import resolve


def main() -> None:
    """Encode the messages once, fit the head on what the body says, save both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=Path, required=True, help="CSV with the columns text and label")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with arguments.messages.open(encoding="utf-8", newline="") as handle:
        messages = list(csv.DictReader(handle))
    labels = sorted({message["label"] for message in messages})
    torch.manual_seed(arguments.seed)  # the head is new
    model = AutoModelForSequenceClassification.from_pretrained(
        resolve("minilm"),
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(resolve("minilm"))
    texts = tokenizer([message["text"] for message in messages], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model.base_model(**texts).pooler_output
    wanted = torch.tensor([labels.index(message["label"]) for message in messages])
    optimizer = torch.optim.Adam(model.classifier.parameters(), lr=0.01)
    for _ in range(arguments.steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model.classifier(states), wanted).backward()
        optimizer.step()
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    right = (model.classifier(states).argmax(dim=-1) == wanted).sum().item()
    print(f"{right} of {len(messages)} messages are sorted as they should be")


if __name__ == "__main__":
    main()
