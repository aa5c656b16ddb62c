"""What people see: readers of events, and the rendering of errors. Knows nothing but events and errors."""
