"""The terminal's firmware, one file per real interface: what a client of the hardware finds at the other end."""
