"""Steps by an OCI runtime of the machine (runc, crun) instead of our own init: the same spec, made plain."""
