"""Whole migrations of virtual machines: what tools/demo and the tests in
tests/vm are made of."""
