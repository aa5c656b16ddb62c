"""Caches elsewhere: in a registry, in a folder, in an image. Records of steps, and the layers they name.

    document   what a cache says, as values; foreign ones are read with suspicion. Pure
    place      where a cache lies: a registry's repository, or an image layout's folder
    asking     what caches say, read: for a build, and for a plan
    taking     `--cache-from`: records for the solver, whose blobs come when they are needed
    gathering  which records and layers of a build go along
    giving     `--cache-to`: documents and blobs brought to a place, the manifest last; `folder`: one of them
    mounts     cache mounts as archives, and back
    caches     the caches of one build, for `build`

A cache is an OCI image manifest: its config is the document, its layers are the blobs of image layers (and
archives of cache mounts), so any registry carries it, and a folder is an image layout. A cache in an image is
the document in the image's config, and speaks of the image's own layers.

What a cache says is believed in one respect: that this key (or this part of what a key names) is those layers
(that content). Whatever else can be checked is; see ARCHITECTURE.md.
"""
