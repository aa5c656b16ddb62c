"""OCI images: documents, references, layers, layouts, registries."""
