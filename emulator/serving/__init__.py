"""Who serves each slot: satellite, gateway, point of presence. One policy per system."""
