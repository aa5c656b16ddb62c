"""The build as data. Pure: knows neither Dockerfiles nor filesystems."""
