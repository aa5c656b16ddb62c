"""What cache keys were made of, kept by name for who asks later why a step ran. No build depends on it."""
