"""Pure decisions about load and failure: no sockets, no sleep, no clock of their own."""
