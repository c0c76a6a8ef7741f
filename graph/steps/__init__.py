"""What nodes share: each file one step, or one question, of several of them."""
