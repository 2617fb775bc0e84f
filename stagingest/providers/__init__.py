"""One file per provider, and what their files share."""
