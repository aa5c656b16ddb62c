"""What hands an image out."""
