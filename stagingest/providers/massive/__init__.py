"""Massive's endpoints and the readers of its answers.

Imports: errors model providers.endpoint providers.options providers.timeframe providers.decode
"""
