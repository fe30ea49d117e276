"""Synthetic hands: poses, and rendered frames with labels.

:func:`poses` gives labelled skeletons, tens of thousands a second; :func:`generate` writes rendered frames in RHD's
on-disk layout, so that the ``rhd`` reader serves both. Every frame is a function of the seed and its number, whatever
the batch size or the number of processes.
"""

from cvhpe.synthetic.dataset import VERSION, generate, split_sizes
from cvhpe.synthetic.sampling import poses

__all__ = ["VERSION", "generate", "poses", "split_sizes"]
