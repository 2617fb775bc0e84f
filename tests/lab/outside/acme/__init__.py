"""A provider of another distribution: daily bars of stocks, its keys, its rate, and its imitation."""
