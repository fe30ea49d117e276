"""Cameras, joint layouts and rectification."""
