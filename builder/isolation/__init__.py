"""With which rights RUN steps are isolated: the rungs, which one works here, and how to get onto it."""
