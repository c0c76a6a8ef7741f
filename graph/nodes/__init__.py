"""One node a file. A node gets the state and the desk, and says where to go on."""
