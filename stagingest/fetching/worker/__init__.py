"""Inside one worker process: a task's pages, its file, its outcome; never the manifest.

Imports: errors model http providers staging.parts fetching.messages
"""
