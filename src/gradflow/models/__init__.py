"""What learns: a stem, an ordered list of blocks, a head. Block 0 is the one nearest the input.

In every function that a file of `conf/` names, the parameters before the `/` are given by gradflow;
those after it are the keys of that file.
"""
