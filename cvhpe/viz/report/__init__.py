"""A run on one page: ``report.html``, whole in itself, for anybody with a browser."""
