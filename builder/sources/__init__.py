"""Where filesystems come from: images and contexts."""
