"""Fusion of inputs, calibration of posteriors, coverage of credible regions."""
