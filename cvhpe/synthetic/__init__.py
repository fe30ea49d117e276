"""Synthetic hands: poses, pictures and labels of hands that nobody had to photograph.

:func:`poses` gives labelled skeletons alone, tens of thousands a second; :func:`generate` writes
rendered frames in RHD's on-disk layout, so that the ``rhd`` reader serves both. Both follow from a
seed, frame by frame, whatever the batch size or the number of processes.
"""

from cvhpe.synthetic.dataset import VERSION, generate, split_sizes
from cvhpe.synthetic.sampling import poses

__all__ = ["VERSION", "generate", "poses", "split_sizes"]
