"""The command-line program: arguments, help, launching, and the recipe decorator."""
