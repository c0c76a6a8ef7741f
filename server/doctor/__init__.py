"""Is everything there that the configured mode needs?"""
