"""One request out, one answer back: what it means, when to ask again, how fast.

Imports: errors model system
"""
