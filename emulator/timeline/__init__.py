"""From a scenario to its Timeline: the link, slot by slot, planned ahead of the traffic."""
