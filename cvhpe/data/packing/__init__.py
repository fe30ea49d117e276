"""Packing a data set: crops, memory maps, keys."""
