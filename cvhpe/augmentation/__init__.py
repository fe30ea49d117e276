"""Geometric augmentation: views, pose swap, test-time augmentation."""
