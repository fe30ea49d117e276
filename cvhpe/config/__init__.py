"""Settings: their schema, presets, sources and comma-separated lists."""
