"""The commands, against a stand-in for the server."""
