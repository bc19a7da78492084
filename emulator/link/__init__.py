"""The packet's journey: the compiled one-way link, one file per stage in travelling order.

wire → queue → serve → lose → propagate        each packet
channel                                         what the Timeline and the overlay say at an instant
store                                           the bytes
path                                            the three verbs: offer, due_run, next_event
link                                            the same for Python callers
"""
