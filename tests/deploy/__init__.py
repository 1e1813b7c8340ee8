"""A package, unlike the other folders of tests: fixtures of its scope end with its tests."""
