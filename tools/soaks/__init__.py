"""The long versions of the destructive tests, one module for each kind."""
