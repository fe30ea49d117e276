"""Settings: their schema, presets and comma-separated lists."""
