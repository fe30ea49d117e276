"""Metrics, evaluation on held-out data, scores of prediction files, latent-space statistics."""
