"""Figures, overlays, reports and contact sheets."""
