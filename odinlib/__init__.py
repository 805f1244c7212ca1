"""odinlib: a living reproduction of ODIN (Liang, Li & Srikant, ICLR 2018).

The method is in :mod:`odinlib.odin`, the paper's protocol in :mod:`odinlib.experiments`,
and what "the paper" and "the demo" mean in :mod:`odinlib.profiles`.
"""

__version__ = "1.0.0"
