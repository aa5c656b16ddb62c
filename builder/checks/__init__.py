"""What can be told of a Dockerfile without building it: findings, an outline, its targets. Pure.

Given the text as it was read, the compiler's options, the bases' configs, the instructions that the compiler
came to with the states they met, and the ignore file. Never knows: files, registries, who shows the result.
"""
