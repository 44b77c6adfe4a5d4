"""How likely a pair is a copy, and which groups and keepers follow."""
