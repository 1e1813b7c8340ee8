"""The other servers, written the way their documentation teaches; each is started as a program of its own."""
