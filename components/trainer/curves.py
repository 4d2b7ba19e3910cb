"""Loss and IoU over the epochs, as a picture."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.trainer.checkpoints import IOU, History

_SPLITS = (("", "train", "tab:blue"), ("val_", "val", "tab:orange"))


def draw_curves(history: History, path: Path) -> None:
    """Draws loss and IoU of train and val into a PNG, the best epoch marked."""
    # A figure of its own, not pyplot's: that keeps every figure, and asks for a display.
    figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained")
    numbers = range(1, len(history.epochs) + 1)
    begins = [
        number - 0.5
        for number, epoch in enumerate(history.epochs, 1)
        if number > 1 and epoch["phase"] != history.epochs[number - 2]["phase"]
    ]
    panels = figure.subplots(1, 2)
    for axes, key, title in zip(panels, ("loss", IOU), ("Loss", "Mean IoU at input size"), strict=True):
        for prefix, split, color in _SPLITS:
            if prefix + key in history.epochs[0]:
                values = [epoch[prefix + key] for epoch in history.epochs]
                axes.plot(numbers, values, color=color, marker="o", markersize=3.5, label=split)
        axes.axvline(
            history.best_epoch + 1,
            color="0.5",
            linestyle=":",
            label=f"exported: epoch {history.best_epoch + 1}",
        )
        for begin in begins:
            axes.axvline(begin, color="0.5", linestyle="--", label="fine-tuning begins")
        axes.set(title=title, xlabel="epoch")
        axes.set_ylim(bottom=0)
        if key == IOU:
            axes.set_ylim(0, 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)
