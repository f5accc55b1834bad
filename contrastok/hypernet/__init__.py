"""A hypernetwork in the manner of ZeTT: a small network that reads the rows of a token's pieces and gives its row.

ZeTT (Minixhofer et al. 2024, Zero-Shot Tokenizer Transfer, arXiv:2405.07883) trains its network with the loss of the
language model under sampled tokenizers. Here there is no such loss: the network learns to give back the rows of the
model's own vocabulary, split into pieces by tokenizers that are sampled as ZeTT's are. Where words have definitions, it
reads these too.
"""
