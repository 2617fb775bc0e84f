"""Workers kept busy with what is due, and what became of it recorded.

Imports: errors model system http providers staging planning
"""
