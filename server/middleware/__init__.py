"""What every request passes on its way to a route: keys, limits, origins, headers, errors."""
