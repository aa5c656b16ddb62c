"""What package managers say is in a filesystem: their files are read, as hostile input, and nothing is run.

find      walks a tree once, and asks who knows which path
system    which distribution it is
dpkg, apk, rpm (rpmheader, rpmstores)    packages of distributions
python, npm, golang                      packages of languages
"""
