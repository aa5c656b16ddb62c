"""Devices for RUN steps, by the Container Device Interface (CDI): what the machine's files tell of them."""
