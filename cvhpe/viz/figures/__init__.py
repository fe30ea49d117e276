"""The paper's figures and the run report."""
