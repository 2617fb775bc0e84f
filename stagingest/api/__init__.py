"""The public verbs, each once: what a command and a notebook call alike.

Imports: errors model system http providers staging targets planning loading fetching
"""
