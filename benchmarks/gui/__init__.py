"""What the chat page costs a browser. `python -m benchmarks.gui` measures and prints; README.md says how."""
