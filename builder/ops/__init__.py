"""What can be done, as values. Knows neither overlayfs nor tar, HTTP or the cache."""
