"""From what was asked to the chunks that are due; asks nothing, knows no target.

Imports: errors model providers staging
"""
