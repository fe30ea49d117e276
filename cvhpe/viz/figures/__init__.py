"""The figures of the paper for any run."""
