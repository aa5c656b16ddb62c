"""How cache-friendly a Dockerfile is: measured by builds, and what another order would do. See `bench`."""
