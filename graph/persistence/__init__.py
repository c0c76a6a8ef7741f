"""What is kept between invocations: states, and conversations."""
