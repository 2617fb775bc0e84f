"""Values without behaviour towards the world: chunks, windows, tasks, pages, datasets, the calendar.

Imports: errors
"""
