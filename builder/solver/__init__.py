"""When and whether a vertex runs. Knows neither Dockerfiles, filesystems nor images."""
