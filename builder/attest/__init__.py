"""Attestations: what is told of an image, beside it: how it was built, what is in it, and who vouches for it.

    redaction   what must never be told, taken out of texts
    materials   what a program was made of, by address and digest
    steps       a program's definition, as BuildKit's provenance has it
    provenance  the SLSA predicates
    packages    what package managers say is in a filesystem, read from their files
    spdx        the SPDX document of that
    statement   in-toto statements, and the manifests that carry them
    keys, secretbox, signing   signatures as cosign makes them
    files       the same as files of tar and local outputs
    maker       all of it for one build

Nothing here runs anything, and nothing is told unless somebody asks for it. Loaded only then.
"""
