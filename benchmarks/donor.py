"""A donor for `--init sava` and `--init omp`: the token vectors of wordllama as a folder that `--init-model` takes.

    python -m benchmarks.donor --out FOLDER

Needs `pip install --no-deps wordllama` (MIT): 32,000 pieces of Llama's tokenizer with vectors of width 256, distilled for
sentence similarity. The folder is a BERT around them, of which only the table and the tokenizer mean anything.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file


def donor(package: Path, out: Path) -> None:
    """Write the vectors and the tokenizer that lie in a package's folder as a model.

    Args:
        package: folder of the installed package.
        out: new folder.
    """
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    table = load_file(package / "weights" / "l2_supercat_256.safetensors")["embedding.weight"].float()
    size, width = table.shape
    layers = {"num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": width}
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=size, hidden_size=width, **layers))
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(table))
    model.save_pretrained(out)
    PreTrainedTokenizerFast(
        tokenizer_file=str(package / "tokenizers" / "l2_supercat_tokenizer_config.json"),
        unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>",
    ).save_pretrained(out)  # fmt: skip


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found = find_spec("wordllama")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("wordllama is missing: pip install --no-deps wordllama")
    donor(Path(found.submodule_search_locations[0]), arguments.out)
    print(f"{arguments.out}: give it to --init-model")


if __name__ == "__main__":
    main()
