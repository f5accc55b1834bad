"""What the stock libraries make of a checkpoint, in a process that cannot import contrastok.

python stock.py BASE CHECKPOINT, in a folder with sentences.txt; writes base.npy, ours.npy and auto.json there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(base: str, checkpoint: str) -> None:
    sys.modules["contrastok"] = None  # type: ignore[assignment]
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    texts = Path("sentences.txt").read_text().split("\n")
    for name, path in (("base", base), ("ours", checkpoint)):
        np.save(f"{name}.npy", SentenceTransformer(path, device="cpu").encode(texts))
    model, tokenizer = AutoModel.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    states = model(**tokenizer("cheese halloumi", return_tensors="pt")).last_hidden_state
    auto = {"tokens": tokenizer.tokenize("Halloumi, cheese"), "shape": list(states.shape)}
    Path("auto.json").write_text(json.dumps(auto))


if __name__ == "__main__":
    main(*sys.argv[1:])
