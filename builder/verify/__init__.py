"""`pybuild verify`: an image built again from nothing, and what of which step is not what it was.

rebuild     the request once more, in a store of its own, with the base images of the user's
recorded    the request of an image, from the record of its build
pictures    an image of a store as what is compared
trees       entries of a layer beside each other; pure
compare     images beside each other, step by step; pure
told        what was found, as text and as JSON; pure
"""
