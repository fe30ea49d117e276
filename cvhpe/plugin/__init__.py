"""The plugin contract, discovery of plugins, and the scaffold of a new one."""
