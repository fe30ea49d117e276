"""The cross-modal VAE, its networks and losses."""
