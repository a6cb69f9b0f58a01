"""Power cuts of a whole machine: tools/soak power."""
