"""The figures on the rare disease names as tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.disease_related import ASKED, Figures
from benchmarks.markdown import cell, table


def figures_table(groups: Mapping[str, Figures], columns: Sequence[str]) -> str:
    """A table of every group: its views, and the differences."""
    rows = [
        [group, name, f"{line['units']:,}", *(cell(line, column, sign) for column in columns)]
        for group, found in groups.items()
        for part, sign in (("views", ""), ("differences", "+"))
        for name, line in found[part].items()
        if line["units"]
    ]
    return table(["answers", "view", "of", *columns], rows)


def held_out_table(held_out: Figures) -> str:
    """The table of the README: names that gen-pairs held out, among all names of the terms file."""
    figures = {"MRR": ("mrr", ".3f"), "hit@10": ("hit@10", ".3f"), "median rank": ("median_rank", "g")}
    rows = [
        [view, *(f"{held_out[view][name]:{form}}" for name, form in figures.values())]
        for view in ("split_word", "initial", "trained")
        if held_out.get("trained", {}).get("count") and view in held_out
    ]
    return table(["view", *figures], rows)


def harm_table(harm: Figures) -> str:
    """Whether anything that holds no new token changed."""
    sts, changed = harm["sts"], harm["ids_changed"] + harm["embeddings_changed"]
    apart = f"the same but for {sts['sentences_with_new_token']:,} sentences with a new token"
    bits = "differ" if sts["changed"] else "the same" if sts["same_bits"] else apart
    return table(
        ["", "base model", "result", "bits"],
        [
            ["STS-B test, Spearman", f"{sts['base']:.4f}", f"{sts['result']:.4f}", bits],
            ["texts without a new token", f"{harm['without_new_token']:,}", f"{changed:,} changed",
             "differ" if changed else "the same"],
        ],
    )  # fmt: skip


def show(figures: Figures) -> None:
    """Print every table."""
    print(f"{figures['tokens']} tokens; names that gen-pairs held out, among all names of the terms file\n")
    print(held_out_table(figures["held_out"]))
    for label, asked in ASKED.items():
        found = figures[label]
        counts = ", ".join(f"{count:,} {name}" for name, count in found["answers"].items())
        print(f"\n{label} among {found['among']:,} names of the ontology ({counts})\n")
        print(figures_table(found["groups"], asked.figures))
    found = figures["retrieval"]
    print(f"\nMedQuAD: {found['asked']:,} questions for their answers among {found['among']:,}\n")
    print(figures_table(found["groups"], ("mrr@10", "acc@1")))
    print(f"\nno harm\n\n{harm_table(figures['no harm'])}")
    if fidelity := figures["no harm"]["fidelity"]:
        print("\ntexts with a new token: cosine to the base model on the original tokens\n")
        print(figures_table({"with a new token": fidelity}, ("mean", "p5")))
