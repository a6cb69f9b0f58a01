"""Benchmarks against what a user would pick instead (tools/bench)."""
