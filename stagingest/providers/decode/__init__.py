"""From JSON to Arrow, for the readers of every provider.

Imports: errors model
"""
