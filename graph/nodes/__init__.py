"""One node a file. A node gets the state and the context, and says where to go on."""
