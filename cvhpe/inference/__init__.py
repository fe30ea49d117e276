"""Prediction on images and videos, hand detection, export."""
