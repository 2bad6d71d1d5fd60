"""What pytest must leave alone: distributions that only the tests that lay them down may find."""

# Collected for doctests, they would land on sys.path, and their backends would be installed for every other test.
collect_ignore = ["plugins", "mutants"]
