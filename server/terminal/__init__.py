"""What commands share: printing, following a run, reaching a server, ending in good order."""
