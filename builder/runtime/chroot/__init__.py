"""Steps without namespaces: chroot(2) alone, for who asks for it where the kernel grants no more."""
