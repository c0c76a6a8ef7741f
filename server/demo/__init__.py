"""The demo: its story, how it looks, and the proof of what it claims."""
