"""What a machine with a GPU can do, and what the project does on it: minutes of borrowed time, rehearsed on a CPU."""
