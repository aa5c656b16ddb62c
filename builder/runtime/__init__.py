"""One process in namespaces. Knows nothing of caches, images or layers."""
