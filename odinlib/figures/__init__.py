"""One function per figure of the paper: measured numbers in, a matplotlib figure out."""

from odinlib.figures.style import BASELINE, COLOURS, ODIN, letter, panels, set_line, shared_legend, use_style

__all__ = ["BASELINE", "COLOURS", "ODIN", "letter", "panels", "set_line", "shared_legend", "use_style"]
