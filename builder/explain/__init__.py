"""Why steps ran, or would: a plan of a build that is not done, and the account of one that was."""
