"""The run report: a self-contained HTML page."""
