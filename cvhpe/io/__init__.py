"""Files: atomic writes, locks, images, videos, caches, process pools."""
