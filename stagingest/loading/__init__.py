"""What a target lacks, in batches, from staging directories into it.

Imports: errors model system staging targets
"""
