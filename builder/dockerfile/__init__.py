"""The Dockerfile language: text to frozen values. Pure."""
