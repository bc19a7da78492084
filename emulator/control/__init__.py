"""The control socket of a running bench: one command model, over ZeroMQ. See docs/reference/control.md."""
