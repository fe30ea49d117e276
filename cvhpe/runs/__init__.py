"""Run folders: settings, weights and metadata of trained models."""
