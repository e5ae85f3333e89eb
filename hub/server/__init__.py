"""The server side of the local Hub."""
