"""What a trainer of Hugging Face saves while new rows lie over its model is a stock model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from contrastok.errors import ModelError
from contrastok.handle import has_adapters
from contrastok.models import transformer, transformer_folder

if TYPE_CHECKING:
    from contrastok.handle import Attached


class StockCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Writes each checkpoint's model anew with the rows in its table, and merges them when training ends.

    The trainer resumes from such checkpoints: the overlay takes its rows out of the table.

    Args:
        handle: the rows.

    Raises:
        ModelError: adapters of PEFT are trained too. The trainer saves those alone, and the rows would be lost.
    """

    def __init__(self, handle: Attached) -> None:
        if has_adapters(handle.model):
            raise ModelError(
                "a trainer saves the adapters of PEFT alone",
                where=type(transformer(handle.model)).__name__,
                hint="save at the end: handle.merge(), then merge_and_unload() of PEFT, then save_pretrained",
            )
        self.handle = handle

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The trainer has written a checkpoint with an overlay in it, which no stock library knows."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            self.handle.save(transformer_folder(str(folder)))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """From here on `save_model` and `save_pretrained` write a stock model by themselves."""
        self.handle.merge()
