"""An executor of our own over processes or threads, which survives the death of either.

Imports: errors system
"""
